"""Who can be among the nearest of a row, by a product of matrices and a bound on what that has lost to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["lost_to_rounding", "screened"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_NONE = np.empty(0)


def lost_to_rounding(dimensions: int, rounding: float) -> float:
    """What a sum of so many products may have lost, as a part of the sizes that go into it."""
    return 2 * (dimensions + 16) * rounding


def screened(
    products: NDArray[Any],
    own: NDArray[Any],
    others: NDArray[Any],
    k: int,
    dimensions: int,
    itself: Ints,
    reach: tuple[Floats, Floats, int, float] | None = None,
) -> tuple[Ints, Ints]:
    """Pairs (place among b rows, place among n others), row by row: all that can be among the k nearest.

    `products` are b x n inner products of vectors of so many dimensions, `own` (b) and `others` (n) their squared
    lengths, all worked out in one dtype; `itself` (b) is where a row stands among the others, -1 for nowhere. With
    `reach` (b and n squared distances from a root, where that stands among the others or -1, slack) those that clearly
    lie too far from the root are left out, as `indexer.finders.Bounds` says.
    """
    rounding = float(np.finfo(products.dtype).eps) / 2
    lost = lost_to_rounding(dimensions, rounding)
    of_rows, of_others, root, slack = (_NONE, _NONE, -1, 0.0) if reach is None else reach
    at, near = _screened(products, own, others, k, lost, 16 * rounding, itself, of_rows, of_others, root, slack)
    return np.asarray(at), np.asarray(near)


@njit(cache=True, nogil=True, error_model="numpy")
def _screened(
    products: NDArray[Any],
    own: NDArray[Any],
    others: NDArray[Any],
    k: int,
    lost: float,
    lenience: float,
    itself: Ints,
    of_rows: Floats,
    of_others: Floats,
    root: int,
    slack: float,
) -> tuple[Ints, Ints]:
    b, n = products.shape
    starts = np.zeros(b + 1, np.int64)
    found = np.empty(b * k, np.int64)
    held = 0
    bounded = of_others.size > 0
    least = np.empty(n)
    heap = np.empty(k)
    for i in range(b):
        heap[:] = np.inf
        for j in range(n):
            size = np.float64(own[i]) + np.float64(others[j])
            squared = size - 2.0 * np.float64(products[i, j])
            near, far = squared - lost * size, squared + lost * size
            if heap[0] < near < np.inf:
                # Farther than k others that bounds allow.
                least[j] = np.inf
                continue
            if not (np.isfinite(near) and np.isfinite(far)):
                # Of damaged weights, whose squares are too large, nothing is told.
                near, far = np.float64(-np.inf), np.float64(np.inf)
            if j == itself[i] or (bounded and j == root):
                near = np.float64(np.inf)
            elif bounded:
                away = of_others[j]
                if np.isfinite(away):
                    if away * (1 - lenience) > of_rows[i] + slack * np.sqrt(max(far, 0.0)) * np.sqrt(away):
                        near = np.float64(np.inf)
                    elif away * (1 + lenience) > of_rows[i] + slack * np.sqrt(max(near, 0.0)) * np.sqrt(away):
                        far = np.float64(np.inf)
                else:
                    far = np.float64(np.inf)
            least[j] = near
            if near < np.inf and far < heap[0]:
                _replace(heap, far)
        for j in range(n):
            if least[j] < np.inf and least[j] <= heap[0]:
                if held == found.size:
                    wider = np.empty(2 * held + n, np.int64)
                    wider[:held] = found[:held]
                    found = wider
                found[held] = j
                held += 1
        starts[i + 1] = held
    at = np.empty(held, np.int64)
    for i in range(b):
        at[starts[i] : starts[i + 1]] = i
    return at, found[:held].copy()


@njit(cache=True, nogil=True)
def _replace(heap: Floats, value: float) -> None:
    """Put a value in place of the largest of a heap (largest first)."""
    k, at = heap.size, 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value
