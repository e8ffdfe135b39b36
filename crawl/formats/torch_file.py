"""The tensors of what torch.save wrote: zip files, and the older stream of pickles. Nothing is unpickled.

The zip (torch 1.6 and later, https://github.com/pytorch/pytorch/blob/main/caffe2/serialize/inline_container.h) holds
`data.pkl`, which describes the tensors, and one stored entry `data/KEY` for each storage. The older form is five
pickles one after another (a magic number, a version, the system, the object, the keys of the storages) and then each
storage: its length in values as 8 bytes, and the values.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.inert_pickle import read_pickle
from crawl.formats.range_stream import RangeStream
from crawl.formats.state_dict import state_dict
from crawl.formats.torch_records import Storage, Tensor, is_key
from crawl.formats.values import MAX_PANEL, MAX_SHARING, Shifted, Stored, Strided, Transposed
from crawl.formats.zip_directory import ZipEntry, data_start, read_directory
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_torch"]

MAX_PICKLE: Final = 32 << 20
"""Bytes. A checkpoint of 10,000 tensors takes about 2 MB."""

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001

_KINDS: Final[Mapping[str, str]] = {
    **{"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"},
    **{"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8"},
    **{"BoolStorage": "BOOL", "Float8_e4m3fnStorage": "F8_E4M3", "Float8_e5m2Storage": "F8_E5M2"},
    # torch.dtype names, where a tensor brings its own.
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"},
    **{"int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64"},
    **{"bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a storage lies: from `start` to `stop`, `header` bytes of it unlike values, `length` bytes of values."""

    start: int
    stop: int
    length: int | None
    zipped: ZipEntry | None = None
    elements: int = 0


class _Storage:
    """The values of one storage, found when they are first read: the zip's local header, or the count, says where."""

    def __init__(self, file: FileRef, place: _Place, dtype: str) -> None:
        self._file, self._place, self._dtype = file, place, dtype
        self._stored: Stored | None = None

    @property
    def unit(self) -> int:
        return 1

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        if self._stored is None:
            self._stored = Stored(self._file, self._begin(open_file(self._file)), self._dtype)
        return self._stored.read(open_file, first, count)

    def _begin(self, reader: RangeReader) -> int:
        if self._place.zipped is not None:
            return data_start(reader, self._place.zipped)
        raw = bytearray(8)
        reader.read_into(self._place.start, memoryview(raw))
        if int.from_bytes(raw, "little") != self._place.elements:
            raise _bad(
                reader.path, f"a storage of {self._place.elements} values", f"{int.from_bytes(raw, 'little')} of them"
            )
        return self._place.start + 8


def read_torch(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The tensors of a file that torch.save wrote, in the order of their bytes.

    Raises SkipError: "empty_file", "truncated", "lfs_pointer", "bad_zip", "bad_pickle", "bad_header", "compressed"
    for a zip whose entries are packed, "no_tensors" for a checkpoint without weights, "unsupported_format" for a file
    that torch did not write; and what the reader raises.
    """
    head = bytearray(min(8, reader.size))
    if not head:
        raise SkipError("empty_file", f"{reader.path} is empty: expected a file of torch.save, found 0 bytes")
    reader.read_into(0, memoryview(head))
    if head == b"version ":
        raise SkipError(
            "lfs_pointer", f"{reader.path} is a Git LFS pointer and not the weights: run `git lfs pull` there"
        )
    if head.startswith(b"PK\3\4"):
        checkpoint, places = _read_zip(reader)
    elif head.startswith(b"\x80\x02\x8a\x0a"):
        checkpoint, places = _read_stream(reader)
    else:
        raise SkipError(
            "unsupported_format",
            f"{reader.path}: expected what torch.save writes, found bytes that begin with {bytes(head[:4])!r}",
        )
    return _entries(reader, file, state_dict(checkpoint, reader.path), places, on_skip)


def _read_zip(reader: RangeReader) -> tuple[Any, dict[str, _Place]]:
    entries = read_directory(reader)
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if not pickles:
        raise SkipError("unsupported_format", f"{reader.path}: expected a zip of torch.save, found no data.pkl in it")
    name = min(pickles, key=lambda each: (each.count("/"), len(each), each))
    prefix = name.removesuffix("data.pkl")
    described = entries[name]
    wanted = [described, *(entry for key, entry in entries.items() if key.startswith(f"{prefix}data/"))]
    packed = [entry.name for entry in wanted if entry.compressed]
    if packed:
        raise SkipError(
            "compressed",
            f"{reader.path}: expected entries that are stored, found {escaped(packed[0])} compressed; "
            "unpack it or save it again with torch.save",
        )
    if described.size > MAX_PICKLE:
        raise _bad(reader.path, f"a data.pkl of at most {MAX_PICKLE} bytes", f"{described.size}")
    order = entries.get(f"{prefix}byteorder")
    if order is not None and not order.compressed and order.size == 3 and _bytes_of(reader, order) == b"big":
        raise SkipError("unsupported_format", f"{reader.path}: expected little-endian values, found big-endian ones")
    checkpoint, _ = read_pickle(io.BytesIO(_bytes_of(reader, described)), reader.path)
    start = f"{prefix}data/"
    places = {
        key[len(start) :]: _Place(entry.header, entry.stop, entry.size, zipped=entry)
        for key, entry in entries.items()
        if key.startswith(start)
    }
    return checkpoint, places


def _bytes_of(reader: RangeReader, entry: ZipEntry) -> bytes:
    raw = bytearray(entry.size)
    reader.read_into(data_start(reader, entry), memoryview(raw))
    return bytes(raw)


def _read_stream(reader: RangeReader) -> tuple[Any, dict[str, _Place]]:
    stream = RangeStream(reader, MAX_PICKLE)
    if read_pickle(stream, reader.path)[0] != _MAGIC or read_pickle(stream, reader.path)[0] != _PROTOCOL:
        raise SkipError("unsupported_format", f"{reader.path}: expected what torch.save writes, found another pickle")
    system, _ = read_pickle(stream, reader.path)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise SkipError("unsupported_format", f"{reader.path}: expected little-endian values, found big-endian ones")
    checkpoint, storages = read_pickle(stream, reader.path)
    keys, _ = read_pickle(stream, reader.path)
    if not isinstance(keys, list) or not all(map(is_key, keys)) or len(keys) != len(set(map(str, keys))):
        raise _bad(reader.path, "a list of storages", "none")
    places: dict[str, _Place] = {}
    at = stream.tell()
    for key in map(str, keys):
        storage = storages.get(key)
        dtype = _KINDS.get(storage.kind) if storage is not None else None
        if storage is None or dtype is None:
            raise SkipError(
                "unknown_dtype",
                f"{reader.path}: expected storages of known types, found "
                f"{escaped(storage.kind) if storage else 'one without a type'}: what follows it cannot be found",
            )
        length = storage.elements * DTYPES[dtype].itemsize
        places[key] = _Place(at, at + 8 + length, length, elements=storage.elements)
        at += 8 + length
    if at > reader.size:
        raise SkipError("truncated", f"{reader.path}: expected {at} bytes, found {reader.size}; fetch it again")
    return checkpoint, places


def _entries(
    reader: RangeReader,
    file: FileRef,
    tensors: Mapping[str, Tensor],
    places: Mapping[str, _Place],
    on_skip: OnSkip | None,
) -> list[TensorEntry]:
    if not tensors:
        raise SkipError("no_tensors", f"{reader.path}: expected a dictionary of tensors, found none in it")
    found: list[TensorEntry] = []
    storages: dict[tuple[str, str], _Storage] = {}
    taken = 0
    for name, tensor in tensors.items():
        try:
            if not is_plain(name):
                raise SkipError("bad_name", f"expected tensor names of 1 to 1024 characters, found {escaped(name)!r}")
            entry = _entry(reader, file, name, tensor, places, storages)
        except SkipError as error:
            if error.reason == "truncated":
                raise
            if on_skip is not None:
                on_skip(reader.path, escaped(name), error)
            continue
        taken += entry.elements * DTYPES[entry.dtype].itemsize
        if taken > MAX_SHARING * reader.size:
            raise _bad(reader.path, f"tensors of at most {MAX_SHARING} times its size", f"{taken} bytes")
        found.append(entry)
    return sorted(found, key=lambda entry: (entry.start, entry.stop, entry.name))


def _entry(
    reader: RangeReader,
    file: FileRef,
    name: str,
    tensor: Tensor,
    places: Mapping[str, _Place],
    storages: dict[tuple[str, str], _Storage],
) -> TensorEntry:
    kind, shown = tensor.kind or tensor.storage.kind, escaped(name)
    dtype = _KINDS.get(kind)
    if dtype is None:
        raise SkipError("unknown_dtype", f"{reader.path}: tensor {shown}: expected a dtype, found {escaped(kind)}")
    place = places.get(tensor.storage.key)
    if place is None or place.length is None:
        raise SkipError(
            "missing_storage", f"{reader.path}: tensor {shown}: expected storage {escaped(tensor.storage.key)}"
        )
    itemsize = DTYPES[dtype].itemsize
    elements = math.prod(tensor.shape)
    held = place.length // itemsize
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True) if elements
    )
    if elements and (last >= held or elements > held):
        raise SkipError(
            "truncated" if place.length < _declared(tensor.storage, itemsize) else "unsupported_layout",
            f"{reader.path}: tensor {shown} of shape {list(tensor.shape)[:8]}: expected its values in a storage of "
            f"{held}, found it to end at {last}",
        )
    stored = storages.setdefault((tensor.storage.key, dtype), _Storage(file, place, dtype))
    return TensorEntry(
        name, dtype, tensor.shape, place.start, place.stop, _laid_out(reader, shown, tensor, stored, itemsize)
    )


def _declared(storage: Storage, itemsize: int) -> int:
    dtype = _KINDS.get(storage.kind)
    return storage.elements * (DTYPES[dtype].itemsize if dtype else 1)


def _laid_out(reader: RangeReader, shown: str, tensor: Tensor, stored: Values, itemsize: int) -> Values:
    """The values in C order: as they lie, transposed, or in any other order if they are few."""
    shape, strides = tensor.shape, tensor.strides
    inner = Shifted(stored, tensor.offset)
    if 0 in shape or _is_contiguous(shape, strides):
        return inner
    if len(shape) == 2 and strides == (1, shape[0]):
        return Transposed(inner, shape[0], shape[1], itemsize)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if max(extent, math.prod(shape)) * itemsize > MAX_PANEL:
        raise SkipError(
            "unsupported_layout",
            f"{reader.path}: tensor {shown} of shape {list(shape)[:8]} and strides {list(strides)[:8]}: expected at "
            f"most {MAX_PANEL} bytes in another order than their own",
        )
    return Strided(inner, shape, strides)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _bad(path: str, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{path}: expected {expected}, found {found}")
