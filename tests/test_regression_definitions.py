"""What is computed edge by edge beside its definition: log-odds of parents, costs, edges of a tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t

from indexer.costs import COEFFICIENT, NEARNESS, PRIVATE, ancestor_costs, floored, parent_costs
from indexer.mdst import minimum_directed_spanning_forest
from indexer.regression import (
    LEAST,
    OBSERVATIONS,
    PARENTAL,
    SLANT,
    SPREAD,
    STRANGE,
    Regression,
    edge_log_odds,
    either_way,
    regress,
)
from indexer.spanning import spanning_tree

Floats = NDArray[np.float64]


def grown(n: int, seed: int) -> Floats:
    """n x n squared distances of a tree of random increments, with two that are nearly equal."""
    rng = np.random.default_rng(seed)
    points = [np.zeros(200)]
    for at in range(1, n):
        step = 1e-5 if at == n // 2 else rng.lognormal(0.0, 0.4)
        points.append(points[int(rng.integers(0, at))] + step * rng.standard_normal(200))
    rows = np.array(points)
    return floored(((rows[:, None] - rows[None]) ** 2).sum(axis=2))


def parental(slope: float, variance: float) -> float:
    """Student's t with 2 degrees of freedom about 1 against one about 0."""
    near, far = np.sqrt(PARENTAL**2 + variance), np.sqrt(STRANGE**2 + variance)
    return float(t.logpdf(slope, 2, loc=1, scale=near) - t.logpdf(slope, 2, loc=0, scale=far))


def odds_by_definition(found: Regression, squared: Floats, root: int) -> Floats:
    n = len(squared)
    rank = found.earlier.sum(axis=0)
    result = np.full((n, n), LEAST)
    result[root] = 0.0
    for u in np.argsort(rank, kind="stable")[1:]:
        later = np.flatnonzero(found.earlier[u])
        off = np.minimum(np.abs(found.coefficient[u, later]), np.abs(found.coefficient[u, later] - 1))
        spread = SPREAD * np.median(off) if later.size >= 3 else 0.0
        nearer = np.flatnonzero(found.earlier[:, u])
        twin = nearer[np.lexsort((rank[nearer], squared[u, nearer]))[0]]
        for v in later:
            noise = min(found.residual[v] / (max(found.residual[u], 1e-300) * OBSERVATIONS), 1e6)
            own = max(parental(found.coefficient[u, v], spread**2 + noise), LEAST)
            result[u, v] = (own + noise * result[twin, v]) / (1 + noise)
    return result


def turned_by_definition(odds: Floats, found: Regression, squared: Floats, root: int) -> Floats:
    result = odds.copy()
    reach = squared[root]
    for u, v in np.argwhere(found.earlier):
        if u == root:
            continue
        b, of_u, of_v = found.coefficient[u, v], found.residual[u], found.residual[v]
        slack = 2 * SLANT * np.sqrt(squared[u, v] * reach[u])
        unordered = 1 / (1 + ((reach[v] - reach[u]) / slack) ** 4)
        turned = min(parental(b * of_u / (b**2 * of_u + of_v), 0.0), odds[u, v])
        result[v, u] = max(unordered * turned + (1 - unordered) * LEAST, LEAST)
    return result


def costs_by_definition(squared: Floats, root: int, slant: float) -> Floats:
    costs = squared.copy()
    for u, v in np.argwhere(np.ones_like(squared, bool)):
        if u == v:
            costs[u, v] = np.inf
        elif u != root and np.isfinite(squared[u, root]) and np.isfinite(squared[u, v]):
            private = (squared[u, root] + squared[u, v] - squared[root, v]) / 2
            costs[u, v] += PRIVATE * max(private - slant * np.sqrt(squared[u, v] * squared[u, root]), 0.0)
    return costs


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 14), st.integers(0, 999), st.data())
def test_log_odds_are_those_of_the_definition(n: int, seed: int, data: st.DataObject) -> None:
    squared, root = grown(n, seed), data.draw(st.integers(0, n - 1))
    found = regress(squared, root)
    odds = edge_log_odds(found, squared, root)
    assert odds == pytest.approx(odds_by_definition(found, squared, root), abs=1e-9)
    turned = either_way(odds, found, squared, root)
    assert turned == pytest.approx(turned_by_definition(odds, found, squared, root), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.integers(0, 999), st.sampled_from([0.0, SLANT]), st.data())
def test_costs_are_those_of_the_definition(n: int, seed: int, slant: float, data: st.DataObject) -> None:
    squared, root = grown(n, seed), data.draw(st.integers(0, n - 1))
    if n > 4 and data.draw(st.booleans()):
        # Two that share no tensor.
        squared[1, 3] = squared[3, 1] = np.inf
    expected = costs_by_definition(squared, root, slant)
    assert ancestor_costs(squared, root, slant) == pytest.approx(expected, rel=1e-9)
    odds, adjacent = np.random.default_rng(seed).standard_normal((2, n, n))
    told = NEARNESS * np.log(expected) - COEFFICIENT * odds - adjacent
    told[root] -= 1.5
    assert parent_costs(squared, root, odds, adjacent, 1.5, slant) == pytest.approx(told, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 20), st.integers(1, 5), st.integers(0, 999), st.data())
def test_a_tree_is_made_of_near_and_cheap_edges_those_of_the_root_and_claims(
    n: int, k: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    # Few levels, so that many are equal; some infinite.
    costs = rng.integers(0, 4, (n, n)) / 2
    costs[rng.random((n, n)) < 0.1] = np.inf
    np.fill_diagonal(costs, np.inf)
    root, k = data.draw(st.integers(0, n - 1)), min(k, n - 1)
    costs[root] = np.where(np.arange(n) == root, np.inf, 2.0)
    neighbours = np.argsort(rng.random((n, n)) + 2 * np.eye(n), axis=1)[:, :k]
    claimed = np.where(rng.random((n + 1, n)) < 0.05, -1.0, 0.0)
    edges = set()
    for v in np.delete(np.arange(n), root):
        cheapest = np.lexsort((np.arange(n), costs[:, v]))[: k if n > k + 1 else 0]
        for u in {root, *neighbours[v], *cheapest, *np.flatnonzero(claimed[:n, v] < 0)}:
            if np.isfinite(costs[u, v]):
                edges.add((int(u), int(v)))
    tail, head = np.array(sorted(edges)).T
    expected = minimum_directed_spanning_forest(n, tail, head, costs[tail, head], np.inf, root=root)
    assert spanning_tree(costs, neighbours, root, claimed).tolist() == expected.tolist()
