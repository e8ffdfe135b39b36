"""The parameters of flax: nested maps of arrays in msgpack (`flax/serialization.py`), walked in place.

An array is extension 1, whose content is itself msgpack: [shape, name of its dtype, bytes]. Arrays of a gigabyte and
more are a map with `__msgpack_chunked_array__`, its shape and its chunks.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.library_names import from_flax, kernel_order
from crawl.formats.range_stream import RangeStream
from crawl.formats.values import Stored, reordered
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_flax"]

MAX_ITEMS: Final = 2_000_000
MAX_DEPTH: Final = 64
MAX_KEY: Final = 1024

_DTYPES: Final[Mapping[str, str]] = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"},
    **{"int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}
_CHUNKED: Final = "__msgpack_chunked_array__"
_SIZES: Final = {0: ">B", 1: ">H", 2: ">I", 3: ">Q"}


@dataclass(frozen=True, slots=True)
class _Array:
    shape: tuple[int, ...]
    dtype: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Arrays one after another, each of one axis."""

    parts: tuple[tuple[int, Stored], ...]
    """(where it begins, in values, and its values), in order."""

    @property
    def unit(self) -> int:
        return 1

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        found = []
        ends = [*(start for start, _ in self.parts[1:]), first + count]
        for (start, stored), end in zip(self.parts, ends, strict=True):
            low, high = max(first, start), min(first + count, max(end, start))
            if low < high:
                found.append(stored.read(open_file, low - start, high - low))
        return np.concatenate(found)


def read_flax(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The parameters of a msgpack file of flax, under PyTorch's names, in the order of their bytes.

    Raises SkipError: "empty_file", "truncated", "lfs_pointer", "bad_header" for what is no msgpack of arrays,
    "too_large"; and what the reader raises.
    """
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected a msgpack file, found 0 bytes")
    walk = _Walk(reader)
    found: dict[str, TensorEntry] = {}
    for path, value in walk.arrays():
        name = from_flax(path) if path else ""
        try:
            if not is_plain(name) or name in found:
                raise SkipError(
                    "bad_name", f"expected names of 1 to 1024 characters, each once, found {escaped(name)!r}"
                )
            found[name] = _entry(reader, file, name, path, value)
        except SkipError as error:
            if error.reason == "truncated":
                raise
            if on_skip is not None:
                on_skip(reader.path, escaped(name), error)
    if not found:
        raise SkipError("no_tensors", f"{reader.path}: expected nested maps of arrays, found none")
    return sorted(found.values(), key=lambda entry: (entry.start, entry.stop, entry.name))


def _entry(
    reader: RangeReader, file: FileRef, name: str, path: tuple[str, ...], arrays: tuple[tuple[int, ...], list[_Array]]
) -> TensorEntry:
    shape, parts = arrays
    dtype = _DTYPES.get(parts[0].dtype) if parts else None
    if dtype is None or any(part.dtype != parts[0].dtype for part in parts):
        shown = escaped(parts[0].dtype) if parts else "no arrays"
        raise SkipError("unknown_dtype", f"{reader.path}: tensor {name}: expected a dtype, found {shown}")
    width = DTYPES[dtype].itemsize
    for part in parts:
        if math.prod(part.shape) * width != part.length:
            raise _bad(reader, f"{math.prod(part.shape) * width} bytes of {name}", f"{part.length}")
    if sum(part.length for part in parts) != math.prod(shape) * width:
        raise _bad(reader, f"chunks of {name} that fill {list(shape)[:8]}", "others")
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.length // width)
    stored = [Stored(file, part.start, dtype) for part in parts]
    values: Values = stored[0] if len(parts) == 1 else _Chunks(tuple(zip(starts[:-1], stored, strict=True)))
    order = kernel_order(path[-1], len(shape))
    if order is not None:
        values, shape = reordered(values, shape, order, width)
    plain = isinstance(values, Stored)
    stop = max(part.start + part.length for part in parts)
    return TensorEntry(name, dtype, shape, parts[0].start, stop, None if plain else values)


class _Walk:
    """The items of one msgpack document, in place."""

    def __init__(self, reader: RangeReader) -> None:
        self.reader = reader
        self.stream = RangeStream(reader, reader.size, piece=4096)
        self.left = MAX_ITEMS

    def arrays(self) -> list[tuple[tuple[str, ...], tuple[tuple[int, ...], list[_Array]]]]:
        """Path and (shape, chunks) of every array."""
        found: list[tuple[tuple[str, ...], tuple[tuple[int, ...], list[_Array]]]] = []
        self._map(self._head(), (), found)
        return found

    def _map(self, head: tuple[str, int], path: tuple[str, ...], found: list[Any]) -> None:
        """Read the map of this head, and put what is in it into `found`."""
        kind, count = head
        if kind != "map" or len(path) > MAX_DEPTH:
            raise _bad(self.reader, "nested maps of arrays", kind)
        chunked: dict[str, Any] = {}
        for _ in range(count):
            key = self._text(self._head())
            inner = self._head()
            if inner[0] == "map" and key in ("shape", "chunks") and _CHUNKED in chunked:
                chunked[key] = self._values(inner[1])
            elif inner[0] == "map":
                self._map(inner, (*path, key), found)
            elif inner[0] == "ext":
                array = self._array(inner[1])
                if array is not None:
                    found.append(((*path, key), (array.shape, [array])))
            else:
                self._skip(inner)
                if key == _CHUNKED:
                    chunked[key] = True
        if _CHUNKED in chunked:
            shape, chunks = chunked.get("shape", []), chunked.get("chunks", [])
            sizes = all(isinstance(each, int) and each >= 0 for each in shape)
            if not sizes or not all(isinstance(each, _Array) for each in chunks):
                raise _bad(self.reader, "a shape and chunks of an array", "others")
            found.append((path, (tuple(shape), chunks)))

    def _values(self, count: int) -> list[Any]:
        """The values of a map: numbers, arrays, None for others."""
        found: list[Any] = []
        for _ in range(count):
            self._text(self._head())
            head = self._head()
            if head[0] == "ext":
                found.append(self._array(head[1]))
            else:
                self._skip(head)
                found.append(head[1] if head[0] == "int" else None)
        return found

    def _array(self, length: int) -> _Array | None:
        """An extension: its type, then `length` bytes; None when it is no array."""
        code = self.stream.exactly(1)[0]
        start = self.stream.tell()
        if start + length > self.reader.size:
            raise _short(self.reader, start + length)
        if code != 1:
            self.stream.seek(start + length)
            return None
        if self._head() != ("array", 3):
            raise _bad(self.reader, "an array of shape, dtype and bytes", "something else")
        kind, axes = self._head()
        if kind != "array" or axes > 64:
            raise _bad(self.reader, "a shape of at most 64 axes", f"{kind} of {axes}")
        sizes = [self._head() for _ in range(axes)]
        if any(kind != "int" or size < 0 for kind, size in sizes):
            raise _bad(self.reader, "a shape of whole numbers", "something else")
        dtype = self._text(self._head())
        kind, size = self._head()
        at = self.stream.tell()
        if kind != "bytes" or at + size > start + length:
            raise _bad(self.reader, f"an array in {length} bytes", f"{kind} of {size}")
        self.stream.seek(start + length)
        return _Array(tuple(size for _, size in sizes), dtype, at, size)

    def _text(self, head: tuple[str, int]) -> str:
        kind, length = head
        if kind == "int":
            return str(length)
        if kind not in ("text", "bytes") or length > MAX_KEY:
            raise _bad(self.reader, f"names of at most {MAX_KEY} bytes", f"{kind} of {length}")
        return self.stream.exactly(length).decode("utf-8", "surrogateescape")

    def _skip(self, head: tuple[str, int]) -> None:
        """Pass over the content of what has this head, however deep it is."""
        left = 1
        while left:
            kind, size = head
            if kind in ("text", "bytes", "fixed", "ext"):
                self.stream.skip(size + (kind == "ext"))
            elif kind in ("array", "map"):
                left += size * (2 if kind == "map" else 1)
            left -= 1
            if left:
                head = self._head()

    def _head(self) -> tuple[str, int]:
        """Kind and length (or number) of the next item."""
        self.left -= 1
        if self.left < 0:
            raise SkipError("too_large", f"{self.reader.path}: expected at most {MAX_ITEMS} items")
        byte = self.stream.exactly(1)[0]
        if byte <= 0x7F or byte >= 0xE0:
            return "int", byte if byte <= 0x7F else byte - 256
        for low, high, kind in ((0x80, 0x8F, "map"), (0x90, 0x9F, "array"), (0xA0, 0xBF, "text")):
            if low <= byte <= high:
                return kind, byte - low
        if byte in (0xC0, 0xC2, 0xC3):
            return "fixed", 0
        if byte in _LENGTHS:
            kind, form = _LENGTHS[byte]
            size = struct.unpack(form, self.stream.exactly(struct.calcsize(form)))[0]
            return kind, int(size)
        if 0xD4 <= byte <= 0xD8:
            return "ext", 1 << (byte - 0xD4)
        if byte in (0xCA, 0xCB):
            return "fixed", 4 if byte == 0xCA else 8
        raise _bad(self.reader, "msgpack", f"byte {byte:#04x} at {self.stream.tell() - 1}")


_LENGTHS: Final = {
    **{0xC4 + at: ("bytes", _SIZES[at]) for at in range(3)},
    **{0xC7 + at: ("ext", _SIZES[at]) for at in range(3)},
    **{0xCC + at: ("int", _SIZES[at]) for at in range(4)},
    **{0xD0 + at: ("int", _SIZES[at].lower()) for at in range(4)},
    **{0xD9 + at: ("text", _SIZES[at]) for at in range(3)},
    **{0xDC: ("array", ">H"), 0xDD: ("array", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I")},
}


def _short(reader: RangeReader, wanted: int) -> SkipError:
    return SkipError("truncated", f"{reader.path}: expected {wanted} bytes, found {reader.size}; fetch it again")


def _bad(reader: RangeReader, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{reader.path}: expected {expected}, found {escaped(found)}")
