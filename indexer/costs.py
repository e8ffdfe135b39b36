"""Costs of edges given a root, by distances, regression and adjacency, as `indexer.ancestry` explains them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["PRIVATE", "ancestor_costs", "floored", "parent_costs"]

PRIVATE: Final = 1.6
NEARNESS: Final = 2.0
"""Weight of log M_r in a parent's log-odds."""
COEFFICIENT: Final = 3.0
"""Weight of the regression's log-odds."""
ADJACENCY: Final = 1.0
"""Weight of the evidence from partial correlations."""


def floored(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """n x n squared distances with a floor: equal backbones are at 0, and costs, their logarithms and ratios have to be
    finite."""
    positive = squared[(squared > 0) & np.isfinite(squared)]
    floor = 1e-6 * float(positive.min()) if positive.size else 1.0
    return np.asarray(squared + floor * (1 - np.eye(len(squared))))


def ancestor_costs(squared: NDArray[np.float64], root: int, slant: float = 0.0) -> NDArray[np.float64]:
    """M_r of `indexer.ancestry`: n x n from the n x n squared distances; entry [u, v] is u -> v.

    With a `slant`, a step v - u may have this cosine with u - r before what u has and v has not counts.
    """
    return np.asarray(_ancestor_costs(squared, root, slant))


@njit(cache=True, nogil=True, error_model="numpy")
def _ancestor_costs(squared: NDArray[np.float64], root: int, slant: float) -> NDArray[np.float64]:
    n = len(squared)
    costs = np.empty((n, n))
    for u in range(n):
        reach = squared[u, root]
        for v in range(n):
            # Infinite is what was not measured: who lacks a distance to the root cannot be judged by it. Without a
            # slant too, as 0 times infinity is no number, which is not above 0.
            private = 0.5 * (reach + squared[u, v] - squared[root, v]) - slant * np.sqrt(squared[u, v] * reach)
            costs[u, v] = squared[u, v] + (PRIVATE * private if private > 0 and u != root else 0.0)
        costs[u, u] = np.inf
    return costs


def parent_costs(
    distances: NDArray[np.float64],
    root: int,
    odds: NDArray[np.float64],
    adjacent: NDArray[np.float64],
    of_root: float,
    slant: float,
) -> NDArray[np.float64]:
    """n x n: cost of u -> v given the root, by distances, regression log-odds and evidence of adjacency (n x n each).

    `of_root` is what the root has ahead of the others. Only differences within a column count.
    """
    costs = NEARNESS * np.log(ancestor_costs(distances, root, slant)) - (COEFFICIENT * odds + ADJACENCY * adjacent)
    costs[root] -= of_root
    return np.asarray(costs)
