"""The weights of Keras and TensorFlow models in HDF5 (`save_weights` and `save` of Keras 1 and 2, transformers'
tf_model.h5): names and places by pyfive, which is Python all through and so cannot be made to run off in memory; the
values by range.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from crawl.formats.entry import OnSkip, TensorEntry, Values
from crawl.formats.library_names import from_keras, kernel_order
from crawl.formats.values import Stored, reordered
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_keras"]

MAX_READS: Final = 400_000
MAX_BYTES: Final = 128 << 20
"""Bytes of the directory of one file: a model of 1,000 layers takes about 1 MB."""

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_DTYPES: Final = {kind: name for name, kind in reversed(DTYPES.items()) if kind.kind in "fiu" and name[0] in "FIU"}
# What a parser raises on bytes that contradict each other.
_BROKEN: Final = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError, AssertionError),
    *(NotImplementedError, EOFError, OSError, ZeroDivisionError, MemoryError, RuntimeError, struct.error),
)


class _Bounded:
    """A file that ends reading after so many bytes: what loops in its directory does not loop forever."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._at = 0
        self._reads, self._bytes = MAX_READS, MAX_BYTES
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._reader.size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        self._reads -= 1
        self._bytes -= size
        if self._reads < 0 or self._bytes < 0:
            raise SkipError("too_large", f"{self._reader.path}: expected a directory of at most {MAX_BYTES} bytes")
        raw = bytearray(size)
        if size:
            self._reader.read_into(self._at, memoryview(raw))
        self._at += size
        return bytes(raw)

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._reader.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """Nothing: the reader is closed by who opened it."""


def read_keras(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The weights of an HDF5 file of Keras, under PyTorch's names and in its order of axes.

    Raises SkipError: "missing_package" without pyfive, "empty_file", "bad_header" for what is no HDF5 of Keras,
    "too_large", and what the reader raises. Weights in chunks (compressed ones are) are told to `on_skip`.
    """
    try:
        import pyfive
    except ImportError as error:
        raise SkipError(
            "missing_package", f"{reader.path}: reading HDF5 needs pyfive: pip install 'modelkin[keras]'"
        ) from error
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected an HDF5 file, found 0 bytes")
    head = bytearray(min(8, reader.size))
    reader.read_into(0, memoryview(head))
    if head != _MAGIC:
        raise _bad(reader, "an HDF5 file", f"bytes that begin with {bytes(head[:4])!r}")
    found: dict[str, TensorEntry] = {}
    try:
        opened = pyfive.File(_Bounded(reader))
        root = opened.get("model_weights", opened)
        if "layer_names" not in root.attrs:
            raise _bad(reader, "a weight file of Keras", "no attribute layer_names in it")
        for layer in map(_text, _list(root.attrs["layer_names"])):
            for weight in map(_text, _list(root[layer].attrs["weight_names"])):
                name = from_keras(layer, weight)
                try:
                    if not is_plain(name) or name in found:
                        raise SkipError("bad_name", f"expected names, each once, found {escaped(name)!r}")
                    found[name] = _entry(reader, file, name, weight, root[layer][weight])
                except SkipError as error:
                    if on_skip is None or error.reason in ("truncated", "too_large"):
                        raise
                    on_skip(reader.path, escaped(name), error)
    except (*_BROKEN, pyfive.core.InvalidHDF5File) as error:
        said = escaped(f"{type(error).__name__}: {error}"[:160])
        raise _bad(reader, "an HDF5 file of Keras", said) from error
    return sorted(found.values(), key=lambda entry: (entry.start, entry.stop, entry.name))


def _entry(reader: RangeReader, file: FileRef, name: str, stored_name: str, dataset: Any) -> TensorEntry:
    shape: tuple[int, ...] = tuple(int(size) for size in dataset.shape)
    kind = np.dtype(dataset.dtype)
    dtype = _DTYPES.get(kind)
    if dtype is None or any(size < 0 for size in shape) or len(shape) > 32:
        raise SkipError("unknown_dtype", f"{reader.path}: tensor {name}: expected little-endian numbers, found {kind}")
    if dataset.id.layout_class != 1:
        raise SkipError(
            "unsupported_layout", f"{reader.path}: tensor {name}: expected its values in one piece, found chunks"
        )
    elements: int = math.prod(shape)
    start, length = int(dataset.id.data_offset), elements * int(kind.itemsize)
    if not 0 <= start <= reader.size - length:
        raise SkipError(
            "truncated",
            f"{reader.path}: tensor {name}: expected {length} bytes at {start}, found a file of {reader.size}",
        )
    values: Values = Stored(file, start, dtype)
    order = kernel_order(stored_name, len(shape))
    if order is not None and elements:
        values, shape = reordered(values, shape, order, kind.itemsize)
    return TensorEntry(name, dtype, shape, start, start + length, None if isinstance(values, Stored) else values)


def _list(value: Any) -> list[Any]:
    return list(np.asarray(value).reshape(-1))[:100_000]


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _bad(reader: RangeReader, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{reader.path}: expected {expected}, found {found}")
