"""Regressions from squared distances alone equal those from coordinates; parents come out of them, siblings do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.regression import LEAST, adjacency, edge_log_odds, either_way, partial_correlations, regress

Points = NDArray[np.float64]
D = 4000


def squared(points: Points) -> NDArray[np.float64]:
    return np.asarray(((points[:, None] - points[None]) ** 2).sum(axis=2))


def tree(parents: list[int], seed: int, steps: list[float] | None = None, drift: float = 0.0) -> Points:
    """Points grown by independent increments; children of one parent share a drift."""
    rng = np.random.default_rng(seed)
    shared = {p: rng.standard_normal(D) for p in set(parents)}
    points = [np.zeros(D)]
    for at, parent in enumerate(parents):
        step = 1.0 if steps is None else steps[at]
        points.append(points[parent] + step * rng.standard_normal(D) + drift * shared[parent])
    return np.array(points)


def slopes_from_coordinates(points: Points, root: int) -> NDArray[np.float64]:
    """The definition: ordinary least squares of v - r on the differences of all that lie nearer to r."""
    away = points - points[root]
    order = np.argsort((away**2).sum(axis=1), kind="stable")
    result = np.zeros((len(points), len(points)))
    for at, v in enumerate(order[1:], 1):
        nearer = order[1:at]
        if nearer.size:
            result[nearer, v] = np.linalg.lstsq(away[nearer].T, away[v], rcond=None)[0]
        result[root, v] = 1 - result[nearer, v].sum()
    return result


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 7), min_size=2, max_size=8), st.integers(0, 99), st.data())
def test_slopes_are_those_of_least_squares_on_coordinates(draws: list[int], seed: int, data: st.DataObject) -> None:
    points = tree([p % (at + 1) for at, p in enumerate(draws)], seed)
    root = data.draw(st.integers(0, len(points) - 1))
    found = regress(squared(points), root)
    assert found.coefficient == pytest.approx(slopes_from_coordinates(points, root), abs=1e-5)
    assert found.coefficient.sum(axis=0)[np.arange(len(points)) != root] == pytest.approx(1.0)
    assert not found.earlier.diagonal().any()
    assert found.residual[root] == 0


def test_a_siblings_own_steps_do_not_reappear_whatever_drift_is_shared() -> None:
    """Seven children of so strong a drift that they are nearer to each other than to their parent; a grandchild."""
    parents = [0] * 7 + [3]
    points = tree(parents, 1, drift=2.0)
    distances = squared(points)
    assert np.argmin(distances[1] + np.eye(9)[1] * 1e9) != 0
    odds = edge_log_odds(regress(distances, 0), distances, 0)
    assert odds[3, 8] > 2
    assert odds[[1, 2, 4, 5, 6, 7], 8].max() < 0
    # The first to come after another is explained by it alone; the more there are, the less each explains.
    among = [odds[u, v] for u in range(1, 8) for v in range(1, 8) if u != v]
    assert max(among) < odds[3, 8]
    assert np.median(among) < 0


def test_whoever_lies_clearly_farther_is_no_parent() -> None:
    distances = squared(tree([0, 1, 1], 2))
    found = regress(distances, 0)
    odds = either_way(edge_log_odds(found, distances, 0), found, distances, 0)
    assert odds[2, 1] < LEAST / 2
    assert odds[3, 1] < LEAST / 2
    assert (odds[0] == 0).all()


def test_of_near_twins_either_may_be_the_parent() -> None:
    """Two that differ by a hundredth of their way from the root: which lies nearer says nothing."""
    points = tree([0, 0, 0, 0, 2], 3, steps=[1.0, 1.0, 1.0, 1.0, 0.01])
    distances = squared(points)
    found = regress(distances, 0)
    odds = either_way(edge_log_odds(found, distances, 0), found, distances, 0)
    first, second = sorted((2, 5), key=lambda row: distances[0, row])
    assert odds[first, second] > odds[1, second] + 1
    assert odds[second, first] > odds[1, first] + 1
    assert abs(odds[first, second] - odds[second, first]) < 0.5


def test_the_swapped_slope_is_the_regression_the_other_way() -> None:
    """Of u on v, where both lie as far: b |u|^2 / (b^2 |u|^2 + |v|^2) after all that lies nearer."""
    points = tree([0, 0, 1, 3], 4, steps=[0.5, 0.5, 1.0, 0.2])
    found = regress(squared(points), 0)
    b, u2, v2 = found.coefficient[3, 4], found.residual[3], found.residual[4]
    away = points - points[0]
    left = [v - away[1:3].T @ np.linalg.lstsq(away[1:3].T, v, rcond=None)[0] for v in away[3:5]]
    assert b * u2 / (b**2 * u2 + v2) == pytest.approx(left[0] @ left[1] / (left[1] @ left[1]), rel=1e-6)


def test_partial_correlations_are_those_of_the_precision_matrix() -> None:
    points = tree([0, 0, 1, 1, 2, 2], 5)
    centred = points - points.mean(axis=0)
    precision = np.linalg.pinv(centred @ centred.T, hermitian=True)
    size = np.sqrt(np.diag(precision))
    expected = -precision / np.outer(size, size)
    np.fill_diagonal(expected, 0.0)
    assert partial_correlations(squared(points)) == pytest.approx(expected, abs=1e-8)


def test_in_a_tree_only_neighbours_are_adjacent() -> None:
    parents = [0, 0, 0, 1, 1, 2, 2, 3, 3]
    found = adjacency(squared(tree(parents, 6)))
    edges = {frozenset((child, parent)) for child, parent in enumerate(parents, 1)}
    pairs = [(u, v) for u in range(10) for v in range(u)]
    least = min(found[u, v] for u, v in pairs if frozenset((u, v)) in edges)
    most = max(found[u, v] for u, v in pairs if frozenset((u, v)) not in edges)
    assert least > most
    assert found == pytest.approx(found.T)


def test_equal_models_do_no_harm() -> None:
    points = tree([0, 0, 1], 7)
    points = np.concatenate([points, points[1:2]])
    distances = squared(points) + 1e-9 * (1 - np.eye(5))
    found = regress(distances, 0)
    odds = edge_log_odds(found, distances, 0)
    assert np.isfinite(either_way(odds, found, distances, 0)).all()
    # Whichever of the twins the regression credits, the other is as good a parent.
    assert max(odds[1, 3], odds[4, 3]) - min(odds[1, 3], odds[4, 3]) < 0.5
