"""A symmetric matrix of which only some entries are at hand: the distances of a large component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Matrix", "Sparse"]

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
        keys = np.concatenate([a * n + b, b * n + a])
        self._keys, first = np.unique(keys, return_index=True)
        self._values = np.concatenate([values, values])[first]
        self._starts = np.searchsorted(self._keys, np.arange(n + 1) * n)
        self._n, self._diagonal, self._unknown, self._measure = n, diagonal, unknown, measure

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return self._row(int(key))
        a, b = np.broadcast_arrays(np.asarray(key[0], np.int64), np.asarray(key[1], np.int64))
        found = self._entries(a.ravel(), b.ravel()).reshape(a.shape)
        return found if found.ndim else float(found)

    def known(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(columns in rising order, values) of what is at hand of a row, itself left out."""
        inside = slice(self._starts[row], self._starts[row + 1])
        return self._keys[inside] % self._n, self._values[inside]

    def _row(self, row: int) -> NDArray[np.float64]:
        result = np.full(self._n, self._unknown)
        columns, values = self.known(row)
        result[columns] = values
        result[row] = self._diagonal
        return result

    def _entries(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        keys = a * self._n + b
        at = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        found = self._keys[at] == keys if len(self._keys) else np.zeros(len(keys), bool)
        result = np.full(len(keys), self._unknown)
        result[found] = self._values[at[found]]
        missing = np.flatnonzero(~found & (a != b))
        if missing.size and self._measure is not None:
            low, high = np.minimum(a, b)[missing], np.maximum(a, b)[missing]
            pairs, back = np.unique(low * self._n + high, return_inverse=True)
            result[missing] = self._measure(pairs // self._n, pairs % self._n)[back]
        result[a == b] = self._diagonal
        return result


Matrix = NDArray[np.float64] | Sparse
