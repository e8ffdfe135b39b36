"""One tensor of a model, wherever and however its file stores it, and how its values are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["OnSkip", "OpenFile", "ReadInto", "TensorEntry", "Values"]

OpenFile = Callable[[FileRef], RangeReader]
"""A reader of a file of the model; the caller of `opened` closes it."""

OnSkip = Callable[[str, str, SkipError], None]
"""Told of each tensor that is left out: (file path, tensor name, why)."""

ReadInto = Callable[[int, memoryview], None]
"""`read(offset, buffer)`: fill the buffer with the tensor's bytes from `offset` (0 = the tensor's first byte)."""

CHUNK: Final = 1 << 17
"""Values that are decoded at once, at least: what a sketch reads at once."""


class Values(Protocol):
    """The values of a tensor that do not lie in its file as they are: packed, permuted, transposed, in parts."""

    @property
    def unit(self) -> int:
        """`read` takes ranges that begin at a multiple of it, and end at one or at the end of the tensor."""

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        """Values `first` up to `first + count` in C order, one axis, in the entry's dtype.

        Raises SkipError when what is stored contradicts itself, and what the reader raises.
        """


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a model. Without `values`, its bytes are those from `start` up to `stop`, from the start of the
    file, in C order; with them, that is where most of what they are made of lies, which a remote reader announces.
    """

    name: str
    dtype: str
    """Of the values as they are read: one of `DTYPES`, in files that are read."""
    shape: tuple[int, ...]
    start: int
    stop: int
    values: Values | None = field(default=None, repr=False)
    stored: str | None = None
    """How the file stores the values where that is not `dtype`: Q4_K, nf4, gptq, int8, ..."""
    file: FileRef | None = None
    """Where it lies, if not in the file whose header lists it."""

    @property
    def elements(self) -> int:
        """Number of values; 1 for a scalar, 0 when an axis is empty."""
        return math.prod(self.shape)

    def opened(self, open_file: OpenFile, file: FileRef) -> ReadInto:
        """What reads the tensor's bytes, C order and little-endian `dtype`, at any offset that is a whole value.

        `file` is the one that the entry was found in. Decodes about a block at a time and keeps the last one, so
        reading in order is cheap.
        """
        if self.values is None:
            reader = open_file(self.file or file)

            def plain(offset: int, buffer: memoryview) -> None:
                reader.read_into(self.start + offset, buffer)

            return plain
        return _Decoded(self.values, self.elements, DTYPES[self.dtype], open_file).read_into


class _Decoded:
    """Bytes at any offset out of `Values`, which decode whole units."""

    def __init__(self, values: Values, elements: int, dtype: np.dtype[Any], open_file: OpenFile) -> None:
        self._values, self._elements, self._dtype, self._open = values, elements, dtype, open_file
        # A tensor without values has no units.
        unit = max(1, values.unit)
        self._size = -(-CHUNK // unit) * unit
        self._at = -1
        self._chunk = memoryview(b"")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        target = buffer.cast("B") if buffer.nbytes else buffer
        width = self._size * self._dtype.itemsize
        filled = 0
        while filled < target.nbytes:
            at, inside = divmod(offset + filled, width)
            if at != self._at:
                self._load(at)
            piece = self._chunk[inside : inside + target.nbytes - filled]
            if not piece:
                raise ValueError(f"{offset + filled} is beyond the end of a tensor of {self._elements} values")
            target[filled : filled + len(piece)] = piece
            filled += len(piece)

    def _load(self, at: int) -> None:
        first = at * self._size
        # The old chunk goes first, or two are in memory.
        self._at, self._chunk = -1, memoryview(b"")
        count = max(0, min(self._size, self._elements - first))
        # Scales are bytes from a stranger too: what overflows is found as not finite.
        with np.errstate(all="ignore"):
            found = self._values.read(self._open, first, count)
            self._chunk = np.ascontiguousarray(found, self._dtype).view(np.uint8).data
        self._at = at
