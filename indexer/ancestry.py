"""Who descends from whom within one component: parents given a root, and the root as one decision.

Given a root r, the log-odds that u is v's parent sum up three things: u's coefficient when v is regressed on all that
lie nearer to r (`indexer.regression`: 1 for a parent, about 0 for a sibling, whatever drift they share), the partial
correlation of the two given all others, and the logarithm of

    M_r(u -> v) = |u - v|^2 + PRIVATE * max(0, |u - r|^2 - <u - r, v - r>)

The first term is the tree metric: training increments are nearly orthogonal, so that squared distances add up along a
path. The second is PRIVATE times the squared length of what u has and v has not, the pendant of u in the tree metric:
an ancestor has none. A minimum directed spanning tree makes one tree of it.

Each root is scored by all evidence together (`indexer.roots`). The posterior over roots, mixed with each model's
distribution over parents, gives confidences. The weights were fitted on trained families (docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.costs import ancestor_costs, floored, parent_costs
from indexer.cues import CUES
from indexer.head_start import head_start
from indexer.prior import Prior
from indexer.regression import SLANT, adjacency, edge_log_odds, either_way, regress
from indexer.roots import WEIGHTS, RootedTree, root_features
from indexer.spanning import spanning_tree

__all__ = ["Ancestry", "Candidates", "alone", "candidates", "recover"]

ROOT_ODDS: Final = (-1.5, 2.0)
"""A root is a likelier parent than another model by ROOT_ODDS[0] + ROOT_ODDS[1] log n: of many, few have children, and
what all are compared with needs no evidence of its own. It is the most that a root has (`indexer.head_start`)."""
CANDIDATE_ODDS: Final = (-1.0, 1.4)
"""The same while roots are compared: what favours any root blurs which it is."""
SHARPNESS: Final = 13.0
"""Weight of log M_r in the spanning tree that a root is scored by: coordinates that increments are worth."""
CUE: Final = 0.5
"""Weight of the direction cues there. Given a root they add nothing to the choice of parents."""
TEMPERATURE: Final = 1.75
"""Log-odds of parents are divided by it before they become probabilities."""
"""As measured on families left out of the fit (docs/accuracy.md)."""

_CANDIDATES: Final = 32
"""Parents considered a model, nearest first, besides the root."""
_CUED: Final = 12
"""Of these, how many have their direction cues measured in a component of more than _CANDIDATES models."""
_ROOTS: Final = 48
"""Roots considered in a larger component."""
_KNOWN: Final = 8
"""Further ones that dates and cards call old."""
_WORTH: Final = 100
"""Models from which on threads judge roots: compiled kernels and LAPACK take most of the time, and let others run."""
_FAR: Final = 10.0
_LIKELY: Final = 8
"""Roots, most probable first, that confidences are mixed from."""

Cues = Callable[[int, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The answer for a component of n models, in rows of the component."""

    parent: NDArray[np.int64]
    """n; -1 for the root."""
    confidence: NDArray[np.float64]
    """n; posterior probability of `parent` (of being the root, for the root)."""
    runner_up: NDArray[np.int64]
    """n; the next most probable parent, -1 when none is."""
    runner_up_confidence: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What each root that was considered would mean, for R roots of n models."""

    root: NDArray[np.int64]
    features: NDArray[np.float64]
    """R x F: `indexer.roots.root_features`."""
    claimed: NDArray[np.float64]
    """R: cost of the root and its tree by what was known before."""
    tree: Callable[[int], tuple[NDArray[np.int64], NDArray[np.float64]]]
    """Root -> parents (n), costs of edges (n x n); made when it is asked for, as 48 of n x n are gigabytes."""


def alone() -> Ancestry:
    """The answer for a single model."""
    return Ancestry(np.full(1, -1), np.ones(1), np.full(1, -1), np.zeros(1))


def recover(
    squared: NDArray[np.float64],
    cues: Cues,
    prior: Prior | None = None,
    weights: NDArray[np.float64] = WEIGHTS,
    threads: int = 1,
) -> Ancestry:
    """Parents, confidences and runners-up of one component.

    `squared` is n x n, symmetric, zero on the diagonal. `cues(u, v)` measures the direction cues of u -> v.
    `prior` is what else is known of edges, `weights` are those of a root's features. Roots are judged by so many
    `threads`, which changes nothing.
    Ties go to the lower row: pass rows in a fixed order (by name).
    """
    n = len(squared)
    if n == 1:
        return alone()
    found = candidates(squared, cues, prior, threads=threads)
    log_odds = found.features @ weights - found.claimed
    weight = np.exp(log_odds - log_odds.max())
    posterior = weight / weight.sum()
    mixed = np.zeros((n, n + 1))
    likely = np.argsort(-posterior, kind="stable")[:_LIKELY]
    best = np.full(n, -1)
    for at in likely:
        root = int(found.root[at])
        parent, costs = found.tree(root)
        mixed[:, :n] += posterior[at] * _parent_chances(costs, parent, root)
        mixed[root, n] += posterior[at]
        best = parent if at == likely[0] else best
    return _ancestry(best, np.clip(mixed / posterior[likely].sum(), 0.0, 1.0))


def candidates(
    squared: NDArray[np.float64],
    cues: Cues,
    prior: Prior | None = None,
    among: NDArray[np.int64] | None = None,
    threads: int = 1,
) -> Candidates:
    """All roots that are considered, of `among` where it is given; arguments as of `recover`, at least two models."""
    n = len(squared)
    prior = prior or Prior(np.zeros((n + 1, n)), np.zeros((n, n)))
    certain, beside = prior.edges, prior.edges[:n] + prior.adjacent
    distances = _bridged(floored(squared), np.arange(n) if among is None else among)
    neighbours = _neighbours(distances)
    votes, measured = _measure(cues, neighbours, n)
    total = sum((CUES[name].log_odds(values) for name, values in votes.items() if name != "kurtosis"), np.zeros((n, n)))
    against = np.logaddexp(0.0, -total)
    whole = bool(np.isfinite(distances).all())
    adjacent = adjacency(distances) if whole and n > 2 else np.zeros((n, n))

    def regressed(root: int, strict: bool) -> NDArray[np.float64]:
        if not whole or n < 3:
            return np.zeros((n, n))
        found = regress(distances, root)
        odds = edge_log_odds(found, distances, root)
        return odds if strict else either_way(odds, found, distances, root)

    def parental(
        root: int, odds: NDArray[np.float64], slant: float, of_root: tuple[float, float]
    ) -> NDArray[np.float64]:
        ahead = of_root[0] + of_root[1] * np.log(n)
        return parent_costs(distances, root, odds, adjacent, ahead, slant) + beside

    def tree(root: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        costs = parental(root, regressed(root, strict=False), SLANT, (0.0, 0.0))
        others = np.delete(np.arange(n), root)
        margins = costs[np.ix_(others, others)].min(axis=0) - costs[root, others]
        costs[root] -= head_start(margins, float(ROOT_ODDS[0] + ROOT_ODDS[1] * np.log(n)))
        return spanning_tree(costs, neighbours, root, certain), costs

    def judged(root: int) -> tuple[NDArray[np.float64], float]:
        with np.errstate(divide="ignore"):
            spanning = SHARPNESS * np.log(ancestor_costs(distances, root)) + CUE * against
        first = spanning_tree(spanning, neighbours, root, None)
        child = np.flatnonzero(first >= 0)
        # A root is judged by the strict order of distances from it: ties would be broken in any root's favour.
        odds = regressed(root, strict=True)
        parent = spanning_tree(parental(root, odds, 0.0, CANDIDATE_ODDS), neighbours, root, certain)
        rooted = RootedTree(root, first, float(spanning[first[child], child].sum()), parent, odds)
        child = np.flatnonzero(parent >= 0)
        claimed = float(certain[parent[child], child].sum()) + float(certain[n, root])
        return root_features(rooted, adjacent, votes, measured), claimed

    roots = _candidate_roots(distances, neighbours, against, certain) if among is None else among
    roots = roots[np.isfinite(distances[roots]).all(axis=1)]
    roots = roots[np.isfinite(certain[n, roots])]
    if threads > 1 and n >= _WORTH:
        with ThreadPoolExecutor(threads) as pool:
            told = list(pool.map(judged, roots.tolist()))
    else:
        told = [judged(root) for root in roots.tolist()]
    features, claimed = zip(*told, strict=True)
    return Candidates(roots, np.array(features), np.array(claimed), tree)


def _bridged(distances: NDArray[np.float64], among: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same where some row, of these, has a distance to all others. Else models that share no tensor, which have
    none, are taken to be _FAR times as far apart as the farthest that share one, so that some model can be the root."""
    apart = np.isinf(distances)
    if not apart[among].any(axis=1).all():
        return distances
    return np.where(apart, _FAR * (float(distances[~apart].max()) or 1.0), distances)


def _measure(
    cues: Cues, neighbours: NDArray[np.int64], n: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """Each cue, n x n and antisymmetric, of each model's nearest; and which pairs those are."""
    votes = {name: np.zeros((n, n)) for name in CUES}
    measured = np.zeros((n, n), bool)
    for v in range(n):
        for u in neighbours[v] if n <= _CANDIDATES else neighbours[v][:_CUED]:
            if not measured[u, v]:
                for name, value in cues(int(u), v).items():
                    votes[name][u, v], votes[name][v, u] = value, -value
                measured[u, v] = measured[v, u] = True
    return votes, measured


def _neighbours(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """n x k: the nearest others of each row, nearest first, ties by lower row."""
    apart = distances.copy()
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, : min(_CANDIDATES, len(apart) - 1)]


def _candidate_roots(
    distances: NDArray[np.float64],
    neighbours: NDArray[np.int64],
    against: NDArray[np.float64],
    certain: NDArray[np.float64],
) -> NDArray[np.int64]:
    """All rows of a small component; of a large one the most central, those that the cues call old, and those that
    dates and cards do, which may be at the end of a run.

    Only rows whose distances to all others were measured can be roots.
    """
    n = len(distances)
    whole = np.flatnonzero(np.isfinite(distances).all(axis=1))
    if n <= _ROOTS:
        return whole
    central = whole[np.argsort(np.sqrt(distances[whole]).mean(axis=1), kind="stable")][: _ROOTS // 2]
    near = neighbours[whole, :4]
    age = (against[near, whole[:, None]] - against[whole[:, None], near]).sum(axis=1)
    old = [v for v in whole[np.argsort(-age, kind="stable")] if v not in set(central.tolist())]
    known = whole[np.isin(whole, _oldest_known(certain))]
    return np.unique(np.concatenate([central, np.array(old[: _ROOTS - len(central)], np.int64), known]))


def _oldest_known(certain: NDArray[np.float64]) -> NDArray[np.int64]:
    """At most _KNOWN rows that, by what is known of edges, are likelier above the others than below them."""
    edges = certain[:-1]
    with np.errstate(invalid="ignore"):
        ahead = np.nan_to_num(edges.T - edges, nan=0.0)
    age = np.clip(ahead, -_FAR, _FAR).sum(axis=1)
    return np.array([row for row in np.argsort(-age, kind="stable")[:_KNOWN] if age[row] > 0], np.int64)


def _parent_chances(costs: NDArray[np.float64], parent: NDArray[np.int64], root: int) -> NDArray[np.float64]:
    """n x n: for each model (row), how likely each other is its parent, given this root and the rest of its tree."""
    n = len(costs)
    allowed = costs.T.copy()
    np.fill_diagonal(allowed, np.inf)
    # A descendant as parent would close a circle, unless the two change places: then it hangs where the model hung.
    below = np.arange(n)
    above = parent[below]
    while (inside := above >= 0).any():
        below, above = below[inside], above[inside]
        allowed[above, below] = np.inf
        above = parent[above]
    child = np.flatnonzero(parent >= 0)
    child = child[parent[parent[child]] >= 0]
    middle = parent[child]
    allowed[middle, child] = costs[child, middle] + costs[parent[middle], child] - costs[middle, child]
    allowed[root] = np.inf
    with np.errstate(invalid="ignore"):
        chance = np.exp((allowed.min(axis=1, keepdims=True) - allowed) / TEMPERATURE)
    chance[root] = 0.0
    return np.asarray(chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-300))


def _ancestry(parent: NDArray[np.int64], chances: NDArray[np.float64]) -> Ancestry:
    """The answer from the tree and each model's distribution over parents; column n stands for "is the root"."""
    n = len(parent)
    chosen = np.where(parent >= 0, parent, n)
    confidence = chances[np.arange(n), chosen]
    others = chances[:, :n].copy()
    others[np.flatnonzero(parent >= 0), parent[parent >= 0]] = -1.0
    runner_up = np.argmax(others, axis=1)
    second = others[np.arange(n), runner_up]
    return Ancestry(parent, confidence, np.where(second > 0, runner_up, -1), np.maximum(second, 0.0))
