"""Pairs of n rows as lists of each row's others, each once: by counting, where sorting all pairs takes ten times as
long. Fewer than 2^31 pairs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["each_way", "places_in"]

Ints = NDArray[np.int64]


def each_way(n: int, a: Ints, b: Ints) -> tuple[Ints, Ints, Ints]:
    """(n + 1 places where rows begin, columns in rising order, first pair that says so) of pairs (a, b), which hold
    both ways."""
    starts, columns, first, kept = _each_way(n, a, b)
    return np.cumsum(np.append(0, kept)), *_close(starts, columns, first, kept)


def places_in(starts: Ints, columns: Ints, a: Ints, b: Ints) -> Ints:
    """Where column b of row a stands, -1 where it does not; P of each."""
    return np.asarray(_places_in(starts, columns, a, b))


@njit(cache=True, nogil=True)
def _each_way(n: int, a: Ints, b: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """As `each_way`, with room between rows for what was told twice; and how many columns each row has."""
    starts = np.zeros(n + 1, np.int64)
    for p in range(a.size):
        starts[a[p] + 1] += 1
        starts[b[p] + 1] += 1
    for v in range(n):
        starts[v + 1] += starts[v]
    held = starts[:-1].copy()
    # Of each column first: gone through in order, they put themselves into rows by rising column.
    rows, pairs = np.empty(2 * a.size, np.int32), np.empty(2 * a.size, np.int32)
    for p in range(a.size):
        for v, u in ((a[p], b[p]), (b[p], a[p])):
            rows[held[v]], pairs[held[v]] = u, p
            held[v] += 1
    held[:] = starts[:-1]
    columns, first = np.empty(2 * a.size, np.int64), np.empty(2 * a.size, np.int64)
    for u in range(n):
        for i in range(starts[u], starts[u + 1]):
            at = held[rows[i]]
            # Pairs of one column come in their order: the first of them says so.
            if at == starts[rows[i]] or columns[at - 1] != u:
                columns[at], first[at] = u, pairs[i]
                held[rows[i]] += 1
    return starts, columns, first, held - starts[:-1]


@njit(cache=True, nogil=True)
def _close(starts: Ints, columns: Ints, first: Ints, kept: Ints) -> tuple[Ints, Ints]:
    total = kept.sum()
    others, pairs = np.empty(total, np.int64), np.empty(total, np.int64)
    at = 0
    for v in range(kept.size):
        for i in range(starts[v], starts[v] + kept[v]):
            others[at], pairs[at] = columns[i], first[i]
            at += 1
    return others, pairs


@njit(cache=True, nogil=True)
def _places_in(starts: Ints, columns: Ints, a: Ints, b: Ints) -> Ints:
    result = np.full(a.size, -1)
    for p in range(a.size):
        low, high = starts[a[p]], starts[a[p] + 1]
        while low < high:
            middle = (low + high) // 2
            if columns[middle] < b[p]:
                low = middle + 1
            else:
                high = middle
        if low < starts[a[p] + 1] and columns[low] == b[p]:
            result[p] = low
    return result
