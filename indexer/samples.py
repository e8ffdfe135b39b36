"""Samples of many models, held once: a family and the parts of it that are looked at share one array, in the shortest
float that loses nothing. What is computed from them is computed in float64.

Of 10,000 models with 28,672 samples each that is 1.1 GB, where each copy in float64 would be 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from indexer.unread import Unread, room

__all__ = ["PRECISIONS", "Samples", "round_to", "side_by_side"]

PRECISIONS: Final[tuple[Any, ...]] = (None, np.float16, ml_dtypes.bfloat16)
"""From long to short: float32 and float64 (never rounded), float16, bfloat16."""

_BLOCK: Final = 1 << 20
"""Values that are converted at a time."""
_FIRST: Final = 64
_OTHERS: Final = 0.001
"""Share of a model's values that may need more digits than its precision has."""

Held = NDArray[Any]
"""float32 or float64."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rounded = tuple[Held, NDArray[np.bool_]]
"""Rows rounded to a precision, and which of them are."""


def round_to(values: NDArray[Any], precision: int) -> NDArray[Any]:
    """Values rounded to one of PRECISIONS, in the dtype they came in."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        return values
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype).astype(values.dtype))


class Samples:
    """n x m values, indexed as an array of float64 is; each access is a copy.

    Some rows of an array `held`, which others may share: row i is `held[rows[i]]`, once it is `at_hand`.
    """

    __slots__ = ("_rounded", "_unread", "held", "rows")

    def __init__(
        self,
        held: Held,
        rows: Ints | None = None,
        rounded: dict[int, tuple[Held, NDArray[np.bool_]]] | None = None,
        unread: Unread | None = None,
    ) -> None:
        self.held = held
        self.rows = np.arange(len(held)) if rows is None else rows
        self._rounded = {} if rounded is None else rounded
        self._unread = unread

    @classmethod
    def of(cls, values: Held) -> Samples:
        """These values, of either float; in float32 if that says the same."""
        return cls(_shortest(values))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.rows), self.held.shape[1]

    @property
    def by_row(self) -> bool:
        """Are they read when they are looked at?"""
        return self._unread is not None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Floats:
        row, *columns = key if isinstance(key, tuple) else (key,)
        at = self.rows[row]
        return np.asarray(self._with(at)[(at, *columns)].astype(np.float64))

    def _with(self, at: Any) -> Held:
        """`held`, in which these of its rows have been read."""
        if self._unread is not None:
            self._unread.want(at)
        return self.held

    def at_hand(self, rows: Any) -> Held:
        """`held`, in which some rows of these samples have been read."""
        return self._with(self.rows[rows])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(np.float64 if dtype is None else dtype)

    def __reduce__(self) -> tuple[type[Samples], tuple[Held]]:
        self.at_hand(slice(None))
        return Samples, (self.alone().held,)

    def take(self, at: Ints) -> Samples:
        """Some of the rows, of the same array."""
        return Samples(self.held, self.rows[at], self._rounded, self._unread)

    def columns(self, first: int, last: int) -> Samples:
        """Some of the columns, of the same array."""
        return Samples(self.held[:, first:last], self.rows, None, self._unread)

    def alone(self) -> Samples:
        """The same in an array of its own, which no other rows than these decide the dtype of."""
        whole = len(self.rows) == len(self.held) and bool((self.rows == np.arange(len(self.rows))).all())
        if whole and self.held.dtype == np.float32:
            return self
        held = self._with(self.rows)
        return Samples.of(held if whole else held[self.rows])

    def precisions(self) -> Ints:
        """n: the shortest float that holds a row's values, as an index into PRECISIONS."""
        result = np.zeros(len(self), np.int64)
        for block in self._blocks(len(self)):
            values = self.at_hand(block)[self.rows[block]]
            for level in range(1, len(PRECISIONS)):
                first = values[:, :_FIRST]
                # Most are told by their first values: so many of those that differ are too many already.
                few = np.flatnonzero((round_to(first, level) != first).sum(axis=1) <= _OTHERS * values.shape[1] + 1)
                told = (round_to(values[few], level) != values[few]).mean(axis=1) <= _OTHERS
                result[block.start + few[told]] = level
        return result

    def rounded(self, precision: int, rows: Ints) -> Held:
        """An array like `held` in which some of the rows are rounded to one of PRECISIONS: worked out once for all that
        share it. The others hold anything."""
        self.at_hand(rows)
        if PRECISIONS[precision] is None:
            return self.held
        if precision not in self._rounded:
            empty = np.empty(self.held.shape, self.held.dtype) if self._unread is None else room(*_kind(self.held))
            # Memory that nobody touches is not taken.
            self._rounded[precision] = empty, np.zeros(len(self.held), bool)
        result, done = self._rounded[precision]
        wanted = np.unique(self.rows[rows])
        wanted = wanted[~done[wanted]]
        for block in self._blocks(len(wanted)):
            result[wanted[block]] = round_to(self.held[wanted[block]], precision)
        done[wanted] = True
        return result

    def _blocks(self, n: int) -> Iterator[slice]:
        step = max(1, _BLOCK // max(1, self.held.shape[1]))
        return (slice(first, min(first + step, n)) for first in range(0, n, step))

    def at(self, precision: int, rows: list[int]) -> Floats:
        """k x m: some rows rounded to a precision."""
        return np.asarray(round_to(self.at_hand(rows)[self.rows[rows]], precision), np.float64)


def _kind(held: Held) -> tuple[tuple[int, int], Any]:
    return (len(held), held.shape[1]), held.dtype


def side_by_side(parts: Sequence[Samples]) -> Samples:
    """The columns of all parts, which have the same n."""
    ends = np.cumsum([part.shape[1] for part in parts])
    held = np.empty((len(parts[0]), ends[-1]), np.result_type(*(part.held.dtype for part in parts)))
    # One after the other: gigabytes are there twice as it is.
    for part, end in zip(parts, ends.tolist(), strict=True):
        held[:, end - part.shape[1] : end] = part.at_hand(slice(None))[part.rows]
    return Samples(held)


def _shortest(values: Held) -> Held:
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short, values, equal_nan=True) else np.asarray(values, np.float64)
