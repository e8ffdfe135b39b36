"""A minimum directed spanning tree over the edges of a dense matrix that are worth a look."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.mdst import minimum_directed_spanning_forest

__all__ = ["spanning_tree"]


def spanning_tree(
    costs: NDArray[np.float64], neighbours: NDArray[np.int64], root: int, prior: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """n parents (-1 for the root) from n x n costs of edges.

    Of each model those from its `neighbours` (n x k) and from the k that cost least, those from the root, and those
    whose `prior` (n or more rows x n) is below 0.
    """
    n, k = neighbours.shape
    allowed = np.zeros((n, n), np.bool_) if prior is None else prior[:n] < 0
    allowed[neighbours, np.arange(n)[:, None]] = True
    allowed[root] = True
    allowed[:, root] = False
    most = np.full(n, -np.inf)
    if n > k + 1:
        # By rows: columns would be sought through all of memory.
        most = np.nan_to_num(np.partition(costs.T.copy(), k - 1)[:, k - 1], nan=np.inf, posinf=np.inf, neginf=-np.inf)
    tail, head, cost = _chosen(costs, allowed, most, root, k)
    return minimum_directed_spanning_forest(n, tail, head, cost, np.inf, root=root)


@njit(cache=True, nogil=True)
def _chosen(
    costs: NDArray[np.float64], allowed: NDArray[np.bool_], most: NDArray[np.float64], root: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(tails, heads, costs) of the edges that are allowed, and to each model but the root of the k that cost least, of
    equal ones from the lower row; `most` (n) is what the last of these costs. None costs infinitely much."""
    n = most.size
    left = np.full(n, k)
    for u in range(n):
        for v in range(n):
            left[v] -= costs[u, v] < most[v]
    left[root] = 0
    tails, heads, told = np.empty(n * n, np.int64), np.empty(n * n, np.int64), np.empty(n * n)
    count = 0
    for u in range(n):
        for v in range(n):
            cost = costs[u, v]
            cheap = v != root and cost < most[v]
            if cost == most[v] and left[v] > 0:
                left[v] -= 1
                cheap = True
            if (cheap or allowed[u, v]) and np.isfinite(cost):
                tails[count], heads[count], told[count] = u, v, cost
                count += 1
    return tails[:count], heads[:count], told[:count]
