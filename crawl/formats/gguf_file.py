"""The tensors of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), under the names and in the
order that the model they were converted from gives them, and dequantised.

A header of key-values, a list of tensors (name, sizes with the fastest first, type, offset), then the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.gguf_header import MAX_TENSORS, TensorInfo, bad_header, read_gguf_header
from crawl.formats.gguf_names import PERMUTED, SHIFTED_NORMS, expert_names, is_transposed, source_name
from crawl.formats.values import MAX_PANEL, Mapped, Shifted, Stored, Transposed
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_gguf"]

MAX_EXPERTS: Final = 4096

_PLAIN: Final = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
"""ggml types whose values lie as they are."""


@dataclass(frozen=True, slots=True)
class _Quantized:
    """Values in blocks of `unit`, each of `width` bytes, as gguf-py takes them apart; float32."""

    file: FileRef
    start: int
    kind: Any
    unit: int
    width: int

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        from gguf.quants import dequantize  # numpy only, but a tenth of a second

        blocks = -(-count // self.unit)
        raw = bytearray(blocks * self.width)
        open_file(self.file).read_into(self.start + first // self.unit * self.width, memoryview(raw))
        found = dequantize(np.frombuffer(raw, np.uint8).reshape(blocks, self.width), self.kind)
        return np.asarray(found, np.float32).reshape(-1)[:count]


@dataclass(frozen=True, slots=True)
class _Unpermuted:
    """Rows of q or k in the order of the source: llama.cpp keeps the two halves of a head interleaved."""

    inner: Values
    head: int
    """Rows of one head."""
    columns: int

    @property
    def unit(self) -> int:
        return self.head * self.columns

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        found = self.inner.read(open_file, first, count)
        return found.reshape(-1, self.head // 2, 2, self.columns).swapaxes(1, 2).reshape(-1)


def read_gguf(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The tensors of a GGUF file of version 2 or 3, in the order of their bytes.

    Raises SkipError: "empty_file", "truncated", "lfs_pointer", "bad_header" for everything that is no header of GGUF,
    "too_large" for one beyond the limits, "unsupported_format" for a version or byte order that is not read; and what
    the reader raises.
    """
    keys, infos, data = read_gguf_header(reader)
    architecture = str(keys.get("general.architecture", ""))
    found: list[TensorEntry] = []
    names: set[str] = set()
    for info in infos:
        try:
            entries = _entries(reader, file, info, data, architecture, keys)
        except SkipError as error:
            if error.reason == "truncated":
                raise
            if on_skip is not None:
                on_skip(reader.path, escaped(info.name), error)
            continue
        for entry in entries:
            if entry.name in names:
                raise bad_header(reader, "names that differ", f"{escaped(entry.name)} twice")
            names.add(entry.name)
            found.append(entry)
        if len(found) > MAX_TENSORS:
            # Each stack of experts is as many as its first axis says.
            raise bad_header(reader, f"at most {MAX_TENSORS} tensors", f"more than {len(found)}")
    return sorted(found, key=lambda entry: (entry.start, entry.stop, entry.name))


def _entries(
    reader: RangeReader, file: FileRef, info: TensorInfo, data: int, architecture: str, keys: Mapping[str, Any]
) -> list[TensorEntry]:
    """One tensor, or the experts that are stacked in it."""
    if not is_plain(info.name):
        raise SkipError("bad_name", f"expected tensor names of 1 to 1024 characters, found {escaped(info.name)!r}")
    start = data + info.offset
    stored, dtype, size, kind = _stored(reader, file, info, start)
    if start + size > reader.size:
        raise SkipError(
            "truncated",
            f"{reader.path}: expected tensor {escaped(info.name)} to end at byte {start + size}, found a file of "
            f"{reader.size} bytes; fetch it again",
        )
    shape = info.shape
    experts = expert_names(architecture, info.name, shape[0]) if len(shape) == 3 and shape[0] <= MAX_EXPERTS else None
    if experts and size and math.prod(shape[1:]) % stored.unit == 0:
        width, values = size // shape[0], math.prod(shape[1:])
        return [
            TensorEntry(
                name, dtype, shape[1:], start + at * width, start + (at + 1) * width, Shifted(stored, at * values), kind
            )
            for at, name in enumerate(experts)
        ]
    name = source_name(architecture, info.name)
    read = _in_source_order(reader, info, stored, dtype, architecture, keys)
    if len(shape) == 2 and is_transposed(architecture, info.name):
        shape = (shape[1], shape[0])
        read = Transposed(read, shape[0], shape[1], DTYPES[dtype].itemsize)
    plain = isinstance(read, Stored)
    return [TensorEntry(name, dtype, shape, start, start + size, None if plain else read, kind)]


def _stored(reader: RangeReader, file: FileRef, info: TensorInfo, start: int) -> tuple[Values, str, int, str | None]:
    """The values as they lie in the file, their dtype, how many bytes they take, and what ggml calls them."""
    elements = math.prod(info.shape)
    if info.kind in _PLAIN:
        dtype = _PLAIN[info.kind]
        return Stored(file, start, dtype), dtype, elements * DTYPES[dtype].itemsize, None
    try:
        kind, block, width = _quantisation(info.kind)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise SkipError(
            "unknown_dtype", f"{reader.path}: tensor {escaped(info.name)}: ggml type {info.kind} is not read by gguf"
        ) from error
    if info.shape and info.shape[-1] % block:
        raise bad_header(reader, f"rows of {escaped(info.name)} in blocks of {block}", f"rows of {info.shape[-1]}")
    return _Quantized(file, start, kind, block, width), "F32", elements // block * width, kind.name


@lru_cache(maxsize=64)
def _quantisation(number: int) -> tuple[Any, int, int]:
    """gguf-py's name for a type, values and bytes of a block. Raises when gguf-py does not take it apart."""
    import gguf
    from gguf.quants import dequantize

    kind = gguf.GGMLQuantizationType(number)
    block, width = gguf.GGML_QUANT_SIZES[kind]
    with np.errstate(all="ignore"):
        dequantize(np.zeros((1, width), np.uint8), kind)
    return kind, block, width


def _in_source_order(
    reader: RangeReader, info: TensorInfo, stored: Values, dtype: str, architecture: str, keys: Mapping[str, Any]
) -> Values:
    part = info.name.rpartition(".")[0].rpartition(".")[2]
    if architecture in SHIFTED_NORMS and part.endswith("norm") and dtype == "F32":
        return Mapped(stored, _less_one)
    if architecture not in PERMUTED or part not in ("attn_q", "attn_k") or not info.shape:
        return stored
    heads = _heads(keys, architecture, info.name, part == "attn_k")
    rows, columns = info.shape[0], math.prod(info.shape[1:])
    if heads < 1 or rows % (2 * heads):
        raise bad_header(reader, f"heads of {escaped(info.name)}", f"{rows} rows for {heads} heads")
    unpermuted = _Unpermuted(stored, rows // heads, columns)
    if unpermuted.unit % stored.unit or 4 * unpermuted.unit > MAX_PANEL:
        raise SkipError("too_large", f"{reader.path}: tensor {escaped(info.name)}: a head takes too much memory")
    return unpermuted


def _less_one(values: NDArray[Any], first: int) -> NDArray[Any]:
    return np.asarray(values - np.float32(1))


def _heads(keys: Mapping[str, Any], architecture: str, name: str, grouped: bool) -> int:
    """Heads of q, or of k where it has fewer; some models say it for each layer."""
    value = keys.get(f"{architecture}.attention.head_count")
    if grouped:
        value = keys.get(f"{architecture}.attention.head_count_kv", value)
    if isinstance(value, list):
        layer = name.split(".")[1]
        value = value[int(layer)] if layer.isdecimal() and int(layer) < len(value) else None
    return value if type(value) is int else 0
