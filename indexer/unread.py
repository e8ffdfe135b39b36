"""Rows that are read when they are first looked at: of a large tree an update looks at few."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "Unread", "room"]

Ints = NDArray[np.int64]


def room(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """An array of zeros that takes memory by the page for what is written of it.

    NumPy's own arrays ask for huge pages, so that to touch one row in a thousand is to touch all.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


class Unread:
    """Which of n rows have not been read yet, of one or more arrays that hold anything there."""

    __slots__ = ("_missing", "_read")

    def __init__(self, n: int, read: Callable[[Ints], Ints]) -> None:
        """`read` fills the arrays at some rows, in rising order, and may fill others; it tells which."""
        self._missing = np.ones(n, bool)
        self._read = read

    def want(self, rows: Any) -> None:
        """Read those of some rows that have not been."""
        at = np.ravel(rows)
        new = at[self._missing[at]]
        if new.size:
            self._missing[self._read(np.unique(new))] = False

    def note(self, rows: Ints) -> None:
        """These have been filled."""
        self._missing[rows] = False


class Rows:
    """n x k float32, read by row: row i is `held[rows[i]]`."""

    __slots__ = ("_held", "_rows", "_unread")

    def __init__(self, held: NDArray[np.float32], rows: Ints, unread: Unread) -> None:
        self._held, self._rows, self._unread = held, rows, unread

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)."""
        return len(self._rows), self._held.shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        at = self._rows[key]
        self._unread.want(at)
        return np.asarray(self._held[at])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(np.float32 if dtype is None else dtype)

    def __reduce__(self) -> tuple[Any, tuple[NDArray[np.float32]]]:
        return np.asarray, (self[:],)

    def take(self, at: Ints) -> Rows:
        """Some of the rows, unread."""
        return Rows(self._held, self._rows[at], self._unread)
