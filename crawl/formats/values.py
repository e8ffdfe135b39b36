"""The simple ways in which values are stored: as they are, transposed, strided, scaled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OpenFile, Values
from crawl.source import FileRef
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = [
    "MAX_PANEL",
    "MAX_SHARING",
    "Mapped",
    "Shifted",
    "Stored",
    "Strided",
    "Transposed",
    "finite",
    "read_array",
    "reordered",
]

MAX_PANEL: Final = 64 << 20
"""Bytes of a tensor in memory at once, where its order in the file is not the order that is asked for."""

MAX_SHARING: Final = 4
"""Bytes of all tensors of a file together, in sizes of the file: tied weights are read once for each name."""

MAX_BESIDE: Final = 32 << 20
"""Values of scales and the like that are held while a packed tensor is read: a 64th of it, or less."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Values that lie in `file` one after another from byte `start` on, little-endian `dtype`."""

    file: FileRef
    start: int
    dtype: str

    @property
    def unit(self) -> int:
        return 1

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        kind = DTYPES[self.dtype]
        raw = bytearray(count * kind.itemsize)
        open_file(self.file).read_into(self.start + first * kind.itemsize, memoryview(raw))
        return np.frombuffer(raw, kind)


@dataclass(frozen=True, slots=True)
class Shifted:
    """The values of `inner` from its value `by` on, a multiple of its unit."""

    inner: Values
    by: int

    @property
    def unit(self) -> int:
        return self.inner.unit

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        return self.inner.read(open_file, self.by + first, count)


def read_array(values: Values, open_file: OpenFile, shape: tuple[int, ...]) -> NDArray[Any]:
    """All of a small tensor, in its shape. Raises SkipError("too_large") above MAX_BESIDE values."""
    count = math.prod(shape)
    if count > MAX_BESIDE:
        raise SkipError("too_large", f"expected at most {MAX_BESIDE} values beside a packed tensor, found {count}")
    return values.read(open_file, 0, count).reshape(shape)


def finite(value: object) -> float | None:
    """A number out of JSON; None for what is none, or too large for a float, as whole numbers there may be."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Mapped:
    """`inner` with `change` made to each value or run of `unit` values: it is given them and where they begin."""

    inner: Values
    change: Callable[[NDArray[Any], int], NDArray[Any]]

    @property
    def unit(self) -> int:
        return self.inner.unit

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        return self.change(self.inner.read(open_file, first, count), first)


@dataclass(frozen=True, slots=True)
class Transposed:
    """A matrix of `rows` x `columns` whose transpose, `columns` x `rows`, is `inner`.

    Taken in panels of whole rows: one that fits MAX_PANEL is one pass over the file.
    """

    inner: Values
    rows: int
    columns: int
    itemsize: int

    @property
    def unit(self) -> int:
        return self._panel() * self.columns

    def _panel(self) -> int:
        """Rows at a time."""
        row = self.columns * self.itemsize
        if row > MAX_PANEL:
            raise SkipError(
                "too_large", f"expected rows of at most {MAX_PANEL} bytes in a transposed tensor, found {row}"
            )
        return max(1, min(self.rows, MAX_PANEL // max(1, row)))

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        top, bottom = first // self.columns, (first + count) // self.columns
        unit = self.inner.unit
        # Whole rows of what is stored that are whole units of it too.
        together = math.lcm(self.rows, unit) // self.rows
        step = max(1, (1 << 18) // max(1, self.rows * together)) * together
        panel: NDArray[Any] | None = None
        for at in range(0, self.columns, step):
            stop = min(self.columns, at + step)
            stored = self.inner.read(open_file, at * self.rows, (stop - at) * self.rows).reshape(stop - at, self.rows)
            if panel is None:
                panel = np.empty((bottom - top, self.columns), stored.dtype)
            panel[:, at:stop] = stored[:, top:bottom].T
        return panel.reshape(-1) if panel is not None else np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor of `shape` whose values lie `strides` apart (in values) from the start of `inner`: read as a whole."""

    inner: Values
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def unit(self) -> int:
        return max(1, math.prod(self.shape))

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        flat = self.inner.read(open_file, 0, extent)
        width = flat.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            flat, self.shape, tuple(stride * width for stride in self.strides), writeable=False
        )
        return np.ascontiguousarray(view).reshape(-1)[first : first + count]


def reordered(
    values: Values, shape: tuple[int, ...], order: tuple[int, ...], itemsize: int
) -> tuple[Values, tuple[int, ...]]:
    """The tensor of `shape` with its axes in another order, as numpy.transpose: its values and its shape.

    Raises SkipError("too_large", ...) for one of more than two axes above MAX_PANEL bytes.
    """
    new = tuple(shape[axis] for axis in order)
    if 0 in shape:
        return values, new
    if len(shape) == 2:
        return Transposed(values, new[0], new[1], itemsize), new
    if math.prod(shape) * itemsize > MAX_PANEL:
        raise SkipError("too_large", f"expected at most {MAX_PANEL} bytes in another order, found shape {list(shape)}")
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return Strided(values, new, tuple(strides[axis] for axis in order)), new
