"""The weights of an ONNX file, as the model that was exported has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.onnx_graph import DTYPES_OF, Graph, Initializer, read_graph
from crawl.formats.onnx_weights import Weight, find_weights
from crawl.formats.packed_values import ScaledWeights
from crawl.formats.values import Stored, Transposed
from crawl.names import escaped, is_plain, is_plain_path
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_onnx"]

_INTEGERS: Final = frozenset(("I8", "U8", "I16", "U16", "I32"))


@dataclass(frozen=True, slots=True)
class _Held:
    """A few values that the header itself holds."""

    array: NDArray[Any]

    @property
    def unit(self) -> int:
        return 1

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        return self.array[first : first + count]


@dataclass(frozen=True, slots=True)
class _Placed:
    values: Values
    dtype: str
    shape: tuple[int, ...]
    file: FileRef | None
    start: int
    stop: int


def read_onnx(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The weights of an ONNX file, floats and dequantised integers, in the order of their bytes.

    External data is read from `siblings`. Raises SkipError as `read_graph` does; what single tensors are left out for
    is told to `on_skip`: "missing_external_data", "bad_name", "unknown_dtype", "truncated", "unsupported_layout".
    """
    graph = read_graph(reader)
    found: dict[str, TensorEntry] = {}
    for weight in find_weights(graph):
        try:
            entry = _entry(reader, file, weight, graph, siblings)
        except SkipError as error:
            if on_skip is not None:
                on_skip(reader.path, escaped(weight.name), error)
            continue
        if entry is None:
            continue
        if entry.name in found:
            entry = TensorEntry(
                weight.initializer,
                entry.dtype,
                entry.shape,
                entry.start,
                entry.stop,
                entry.values,
                entry.stored,
                entry.file,
            )
        found.setdefault(entry.name, entry)
    return sorted(found.values(), key=lambda entry: (entry.start, entry.stop, entry.name))


def _entry(
    reader: RangeReader, file: FileRef, weight: Weight, graph: Graph, siblings: Mapping[str, FileRef]
) -> TensorEntry | None:
    """The weight as the model has it; None for what is no weight: shapes, indices, masks."""
    if not is_plain(weight.name) or not is_plain(weight.initializer):
        raise SkipError("bad_name", f"expected tensor names of 1 to 1024 characters, found {escaped(weight.name)!r}")
    placed = _place(reader, file, graph.initializers[weight.initializer], siblings)
    values, dtype, shape, stored = placed.values, placed.dtype, placed.shape, None
    if weight.scale is not None and dtype in _INTEGERS:
        values, stored = _scaled(reader, file, weight, placed, graph, siblings), f"onnx {dtype.lower()}"
        dtype = "F32"
    elif dtype in _INTEGERS or dtype in ("I64", "U32", "U64", "BOOL"):
        return None
    if weight.transposed:
        if len(shape) != 2:
            raise SkipError("unsupported_layout", f"{reader.path}: expected a matrix, found {weight.name} of {shape}")
        shape = (shape[1], shape[0])
        values = Transposed(values, shape[0], shape[1], DTYPES[dtype].itemsize)
    plain = values if isinstance(values, Stored) else None
    return TensorEntry(
        weight.name, dtype, shape, placed.start, placed.stop, None if plain else values, stored, placed.file
    )


def _place(reader: RangeReader, file: FileRef, found: Initializer, siblings: Mapping[str, FileRef]) -> _Placed:
    shown = escaped(found.name)
    dtype = DTYPES_OF.get(found.kind)
    if dtype is None:
        raise SkipError("unknown_dtype", f"{reader.path}: tensor {shown}: ONNX type {found.kind} is not read")
    shape = tuple(found.shape)
    if len(shape) > 64 or any(size < 0 for size in shape):
        raise SkipError("bad_header", f"{reader.path}: tensor {shown}: expected a shape, found {list(shape)[:8]}")
    elements = math.prod(shape)
    length = elements * DTYPES[dtype].itemsize
    if found.external:
        return _external(reader, file, found, siblings, dtype, length)
    if found.numbers:
        if len(found.numbers) != elements:
            raise SkipError(
                "bad_header", f"{reader.path}: tensor {shown}: expected {elements} values, found {len(found.numbers)}"
            )
        array = np.array(found.numbers, np.int64)
        # Half floats are written as the integers that their bits are.
        bits = array.astype(np.uint16).view(DTYPES[dtype]) if dtype in ("F16", "BF16") else array.astype(DTYPES[dtype])
        return _Placed(_Held(bits), dtype, shape, None, 0, 0)
    if found.length != length:
        raise SkipError("bad_header", f"{reader.path}: tensor {shown}: expected {length} bytes, found {found.length}")
    return _Placed(Stored(file, found.start, dtype), dtype, shape, None, found.start, found.start + length)


def _external(
    reader: RangeReader, file: FileRef, found: Initializer, siblings: Mapping[str, FileRef], dtype: str, length: int
) -> _Placed:
    """A tensor in another file of the model: a name below the ONNX file's folder, and a range of it."""
    shown, location = escaped(found.name), found.external.get("location", "")
    folder = file.path.rpartition("/")[0]
    path = f"{folder}/{location}" if folder else location
    if not is_plain_path(location):
        raise SkipError(
            "bad_name", f"{reader.path}: tensor {shown}: expected a file beside it, found {escaped(location)!r}"
        )
    if path not in siblings:
        raise SkipError(
            "missing_external_data", f"{reader.path}: tensor {shown}: expected its values in {path}, which is not there"
        )
    said = [found.external.get(key, default) for key, default in (("offset", "0"), ("length", str(length)))]
    if not all(each.isascii() and each.isdigit() and len(each) < 20 for each in said) or int(said[1]) != length:
        raise SkipError("bad_header", f"{reader.path}: tensor {shown}: expected {length} bytes at an offset")
    start, other = int(said[0]), siblings[path]
    if start + length > other.size:
        raise SkipError(
            "truncated",
            f"{reader.path}: tensor {shown}: expected {path} to hold byte {start + length}, found {other.size}",
        )
    return _Placed(Stored(other, start, dtype), dtype, tuple(found.shape), other, start, start + length)


def _scaled(
    reader: RangeReader,
    file: FileRef,
    weight: Weight,
    placed: _Placed,
    graph: Graph,
    siblings: Mapping[str, FileRef],
) -> Values:
    """The integers less their zero point, times their scale. Matrices have a scale for all, a row or a column."""
    if not placed.shape or not math.prod(placed.shape):
        raise SkipError("unsupported_layout", f"{reader.path}: expected a matrix, found {weight.name} without axes")
    shape = (placed.shape[0], math.prod(placed.shape[1:]))
    grids: list[tuple[Values, tuple[int, int]]] = []
    for name in (weight.scale, weight.zero):
        if name is None:
            continue
        part = _place(reader, file, graph.initializers[name], siblings)
        grid = _grid(part.shape, placed.shape, weight.axis)
        if grid is None or (name == weight.scale and part.dtype not in ("F32", "F16", "F64", "BF16")):
            raise SkipError(
                "unsupported_layout",
                f"{reader.path}: tensor {weight.name} of {list(placed.shape)}: expected a scale for it, its rows or "
                f"its columns, found {part.dtype} {list(part.shape)}",
            )
        grids.append((part.values, grid))
    scale, parts = grids[0]
    zero, zero_parts = grids[1] if len(grids) > 1 else (None, (1, 1))
    if zero_parts not in ((1, 1), parts):
        raise SkipError("unsupported_layout", f"{reader.path}: tensor {weight.name}: a zero point unlike its scale")
    block = (-(-shape[0] // parts[0]), -(-shape[1] // parts[1]))
    return ScaledWeights(placed.values, scale, shape, block, 1.0, parts, zero, zero_parts)


def _grid(part: tuple[int, ...], shape: tuple[int, ...], axis: int) -> tuple[int, int] | None:
    """Rows x columns of a scale; None where it is neither for all, nor for each row, nor for each column."""
    rows, columns = shape[0], math.prod(shape[1:])
    if math.prod(part) == 1:
        return 1, 1
    sides = (*part, *[1] * (2 - len(part))) if len(part) != 1 else ()
    along = axis % len(shape) if len(part) == 1 else (0 if sides[0] > 1 else 1)
    if along == 0 and math.prod(part) == rows and (not sides or sides[0] == rows):
        return rows, 1
    if along == 1 and len(shape) == 2 and math.prod(part) == columns:
        return 1, columns
    return None
