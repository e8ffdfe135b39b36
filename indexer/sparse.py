"""A symmetric matrix of which only some entries are at hand: the distances of a large component."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.symmetric import each_way, places_in

__all__ = ["Matrix", "Sparse", "reached"]

Measure = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


class Sparse:
    """n x n values, read as an array is: `m[a]` is a dense row, `m[a, b]` broadcasts, `m[np.ix_(a, b)]` is a block.

    A row holds what is at hand, and `unknown` elsewhere. Single entries and blocks that are not at hand are asked of
    `measure` (rows a, rows b, both of length P -> P values), where it is given.
    """

    def __init__(
        self,
        n: int,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        values: NDArray[np.float64],
        *,
        diagonal: float,
        unknown: float,
        measure: Measure | None = None,
    ) -> None:
        starts, columns, first = each_way(n, a, b)
        self._hold(starts, columns, values[first], diagonal, unknown, measure)

    @classmethod
    def of_lists(
        cls,
        starts: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float64],
        *,
        diagonal: float,
        unknown: float,
        measure: Measure | None = None,
    ) -> Sparse:
        """One whose rows are at hand as `lists` gives them, both ways."""
        result = cls.__new__(cls)
        result._hold(starts, columns, values, diagonal, unknown, measure)
        return result

    def _hold(
        self,
        starts: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float64],
        diagonal: float,
        unknown: float,
        measure: Measure | None,
    ) -> None:
        self._starts, self._columns, self._values = starts, columns, values
        self._beside = np.empty(0, np.int64), np.empty(0)
        self._n, self._diagonal, self._unknown, self._measure = len(starts) - 1, diagonal, unknown, measure

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return self._row(int(key))
        a, b = np.broadcast_arrays(np.asarray(key[0], np.int64), np.asarray(key[1], np.int64))
        found = self._entries(a.ravel(), b.ravel()).reshape(a.shape)
        return found if found.ndim else float(found)

    def with_pairs(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> Sparse:
        """The same with these entries measured beforehand, all at once; rows stay as they are. Negative rows are passed
        over."""
        kept = (a >= 0) & (b >= 0) & (a != b)
        low, high = np.minimum(a, b)[kept], np.maximum(a, b)[kept]
        new = places_in(self._starts, self._columns, low, high) < 0
        keys = np.unique(low[new] * self._n + high[new])
        result = copy(self)
        result._beside = keys, self._entries(keys // self._n, keys % self._n)
        return result

    def with_values(self, a: NDArray[np.int64], b: NDArray[np.int64], values: NDArray[np.float64]) -> Sparse:
        """The same with these entries at hand, too, for who asks for single ones; rows stay as they are."""
        keys = np.concatenate([np.minimum(a, b) * self._n + np.maximum(a, b), self._beside[0]])
        keys, first = np.unique(keys, return_index=True)
        result = copy(self)
        result._beside = keys, np.concatenate([values, self._beside[1]])[first]
        return result

    def beside(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(rows a, rows b, values) of single entries that are at hand beside rows."""
        keys, values = self._beside
        return keys // self._n, keys % self._n, values

    def known(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(columns in rising order, values) of what is at hand of a row, itself left out."""
        inside = slice(self._starts[row], self._starts[row + 1])
        return self._columns[inside], self._values[inside]

    def lists(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(n + 1 places where rows begin, columns, values): what is at hand, row by row, as `known` gives it."""
        return self._starts, self._columns, self._values

    def nearest(self, k: int) -> NDArray[np.int64]:
        """n x k: the columns of the least finite values of each row, of equal ones the lower first; then -1."""
        return np.asarray(_least(self._starts, self._columns, self._values, k))

    def _row(self, row: int) -> NDArray[np.float64]:
        result = np.full(self._n, self._unknown)
        columns, values = self.known(row)
        result[columns] = values
        result[row] = self._diagonal
        return result

    def _entries(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        low, high = np.minimum(a, b), np.maximum(a, b)
        at = places_in(self._starts, self._columns, low, high)
        found = at >= 0
        result = np.full(len(at), self._unknown)
        result[found] = self._values[at[found]]
        missing = np.flatnonzero(~found & (low != high))
        keys = low * self._n + high
        if missing.size:
            at, found = _among(keys[missing], self._beside[0])
            result[missing[found]] = self._beside[1][at[found]]
            missing = missing[~found]
        if missing.size and self._measure is not None:
            pairs, back = np.unique(keys[missing], return_inverse=True)
            result[missing] = self._measure(pairs // self._n, pairs % self._n)[back]
        result[low == high] = self._diagonal
        return result


@njit(cache=True, nogil=True)
def _least(
    starts: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    result = np.full((starts.size - 1, k), -1)
    held = np.empty(k)
    for row in range(starts.size - 1):
        count = 0
        for at in range(starts[row], starts[row + 1]):
            value = values[at]
            if not np.isfinite(value) or (count == k and not value < held[k - 1]):
                continue
            to = min(count, k - 1)
            while to > 0 and value < held[to - 1]:
                held[to], result[row, to] = held[to - 1], result[row, to - 1]
                to -= 1
            held[to], result[row, to] = value, columns[at]
            count = min(count + 1, k)
    return result


def _among(keys: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(place of each key among the known ones, which are sorted; whether it is one of them)."""
    if not known.size:
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return at, np.asarray(known[at] == keys)


Matrix = NDArray[np.float64] | Sparse


def reached(squared: Matrix, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows in rising order, values): those at a finite distance from a row that are at hand, itself left out."""
    if isinstance(squared, Sparse):
        rows, values = squared.known(row)
    else:
        rows, values = np.arange(len(squared)), squared[row]
    kept = np.isfinite(values) & (rows != row)
    return rows[kept], values[kept]
