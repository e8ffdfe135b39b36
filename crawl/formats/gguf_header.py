"""The header of a GGUF file: its key-values and its list of tensors. No count in it is trusted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from crawl.formats.range_stream import RangeStream
from crawl.names import escaped
from crawl.source import RangeReader
from store.errors import SkipError

__all__ = ["TensorInfo", "bad_header", "read_gguf_header"]

MAX_HEADER: Final = 256 << 20
"""Bytes. A vocabulary of 256,000 tokens with merges takes about 16 MB."""
MAX_VALUES: Final = 2_000_000
MAX_TENSORS: Final = 200_000

_SCALARS: Final = {
    **{0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"},
}
_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the header lists it: sizes slowest first, ggml's number for its type, its offset in the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def read_gguf_header(reader: RangeReader) -> tuple[dict[str, Any], list[TensorInfo], int]:
    """The scalars and short arrays of the key-values, the tensors, and the offset of the data."""
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected a GGUF file, found 0 bytes")
    stream = RangeStream(reader, MAX_HEADER)
    magic = stream.exactly(min(8, reader.size))
    if magic == b"version ":
        raise SkipError(
            "lfs_pointer", f"{reader.path} is a Git LFS pointer and not the weights: run `git lfs pull` there"
        )
    if magic[:4] != b"GGUF" or len(magic) < 8:
        raise bad_header(reader, "a GGUF file", f"bytes that begin with {bytes(magic[:4])!r}")
    version = int.from_bytes(magic[4:], "little")
    if version not in (2, 3):
        shown = version if version < 1 << 16 else "another byte order"
        raise SkipError("unsupported_format", f"{reader.path}: expected GGUF of version 2 or 3, found {shown}")
    tensors, pairs = struct.unpack("<QQ", stream.exactly(16))
    # A key takes 13 bytes at least, a tensor 25.
    if tensors > MAX_TENSORS or 25 * tensors + 13 * pairs > reader.size:
        raise bad_header(reader, f"at most {MAX_TENSORS} tensors and as many keys as fit", f"{tensors} and {pairs}")
    keys: dict[str, Any] = {}
    left = [MAX_VALUES]
    for _ in range(pairs):
        key = _string(reader, stream)
        value = _value(reader, stream, int.from_bytes(stream.exactly(4), "little"), left, 0)
        if value is not None and len(keys) < 4096:
            keys[key] = value
    infos = [_info(reader, stream) for _ in range(tensors)]
    alignment = keys.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise bad_header(reader, "an alignment", escaped(str(alignment))[:40])
    return keys, infos, -(-stream.tell() // alignment) * alignment


def _string(reader: RangeReader, stream: RangeStream) -> str:
    length = int.from_bytes(stream.exactly(8), "little")
    if length > 1 << 16:
        raise bad_header(reader, "names of at most 65,536 bytes", f"one of {length}")
    return stream.exactly(length).decode("utf-8", "surrogateescape")


def _value(reader: RangeReader, stream: RangeStream, kind: int, left: list[int], depth: int) -> Any:
    """A scalar, a short string, or a short array of numbers; None for what is passed over."""
    left[0] -= 1
    if left[0] < 0:
        raise SkipError("too_large", f"{reader.path}: expected at most {MAX_VALUES} values in a header")
    if kind in _SCALARS:
        form = f"<{_SCALARS[kind]}"
        return struct.unpack(form, stream.exactly(struct.calcsize(form)))[0]
    if kind == _STRING:
        length = int.from_bytes(stream.exactly(8), "little")
        if length <= 256:
            return stream.exactly(length).decode("utf-8", "replace")
        stream.skip(length)
        return None
    if kind != _ARRAY or depth > 2:
        raise bad_header(reader, "values of known types", f"type {kind}")
    inner, count = struct.unpack("<IQ", stream.exactly(12))
    if inner in _SCALARS:
        width = struct.calcsize(f"<{_SCALARS[inner]}")
        if count > 1024:
            stream.skip(count * width)
            return None
        return list(struct.unpack(f"<{count}{_SCALARS[inner]}", stream.exactly(count * width)))
    for _ in range(count):
        _value(reader, stream, inner, left, depth + 1)
    return None


def _info(reader: RangeReader, stream: RangeStream) -> TensorInfo:
    name = _string(reader, stream)
    axes = int.from_bytes(stream.exactly(4), "little")
    if axes > 8:
        raise bad_header(reader, f"at most 8 axes of tensor {escaped(name)}", f"{axes}")
    sizes = struct.unpack(f"<{axes}Q", stream.exactly(8 * axes))
    kind, offset = struct.unpack("<IQ", stream.exactly(12))
    if any(size >= 2**63 for size in sizes):
        raise bad_header(reader, f"sizes of tensor {escaped(name)}", "a negative one")
    return TensorInfo(name, tuple(reversed(sizes)), kind, offset)


def bad_header(reader: RangeReader, expected: str, found: str) -> SkipError:
    """The error for a header that contradicts itself."""
    return SkipError("bad_header", f"{reader.path}: expected {expected}, found {found}")
