"""The header of a safetensors file, read as what it is: bytes from a stranger.

The layout (https://github.com/huggingface/safetensors): 8 bytes, little-endian, hold the header's length;
then the header, a JSON object of {tensor: {dtype, shape, data_offsets}}; then the data, which the offsets
count from. Nothing is allocated before its size has been compared with the file's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, TypeGuard, cast

from crawl.formats.entry import OnSkip, TensorEntry
from crawl.names import escaped, is_plain
from crawl.source import RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["OnSkip", "TensorEntry", "read_header"]

MAX_HEADER = 100_000_000
"""Bytes. The format's own limit."""

MAX_VALUES = 2_000_000
"""JSON values in one header. A tensor takes about 8, so this is 250,000 tensors; without a limit, 100 MB
that is all `[],[],[]` becomes gigabytes of Python objects."""

MAX_DIMENSION = 2**63 - 1
MAX_DIMENSIONS = 64
"""What NumPy can hold."""


def read_header(reader: RangeReader, on_skip: OnSkip | None = None) -> list[TensorEntry]:
    """The tensors of a safetensors file, in the order of their bytes. Reads the header and nothing else.

    A tensor of a dtype that is not in `DTYPES`, or whose name cannot be stored, is left out and told to
    `on_skip`; the others stay good. Bytes that belong to no tensor are allowed: they are never read.

    Raises SkipError: "empty_file"; "truncated" when the header or a tensor runs past the end of the file;
    "bad_header" for everything else that is not a valid header; "lfs_pointer" for what git leaves where
    git-lfs did not run; and what the reader raises.
    """
    header, data_start = _read_json(reader)
    entries: list[TensorEntry] = []
    spans: list[tuple[int, int, str]] = []
    for name, fields in header.items():
        if name == "__metadata__":
            _check_metadata(reader.path, fields)
            continue
        entry = _entry(reader, name, fields, data_start)
        spans.append((entry.start, entry.stop, name))
        why = _left_out(reader.path, entry)
        if why is None:
            entries.append(entry)
        elif on_skip is not None:
            on_skip(reader.path, escaped(name), why)
    _check_overlap(reader.path, spans)
    return sorted(entries, key=lambda entry: (entry.start, entry.stop, entry.name))


def _read_json(reader: RangeReader) -> tuple[dict[str, Any], int]:
    """The header as an object, and the offset in the file where the data starts."""
    path, size = reader.path, reader.size
    if size == 0:
        raise SkipError("empty_file", f"{path} is empty: expected a safetensors file, found 0 bytes")
    if size < 8:
        raise SkipError("truncated", f"{path}: expected 8 bytes for the header's length, found {size}")
    prefix = bytearray(8)
    reader.read_into(0, memoryview(prefix))
    if prefix == b"version ":
        raise SkipError("lfs_pointer", f"{path} is a Git LFS pointer and not the weights: run `git lfs pull` there")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER:
        raise _bad(path, f"a header of at most {MAX_HEADER} bytes", f"a length of {length}")
    if length > size - 8:
        raise SkipError("truncated", f"{path}: expected a header of {length} bytes, found a file of {size} bytes")
    raw = bytearray(length)
    reader.read_into(8, memoryview(raw))
    if raw[:1] != b"{":
        raise _bad(path, "a header that is a JSON object", f"bytes that begin with {bytes(raw[:8])!r}")
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if values > MAX_VALUES:
        raise _bad(path, f"at most {MAX_VALUES} values in a header", f"about {values}")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _bad(path, "a header in UTF-8", f"byte {raw[error.start]:#04x} at {error.start}") from error
    except RecursionError as error:
        raise _bad(path, "a header of two levels", "JSON nested too deep to read") from error
    except ValueError as error:
        raise _bad(path, "a header that is valid JSON", escaped(str(error))) from error
    return cast("dict[str, Any]", header), 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name!r} stands there twice")
            seen.add(name)
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _entry(reader: RangeReader, name: str, fields: object, data_start: int) -> TensorEntry:
    path, shown = reader.path, escaped(name)
    if not isinstance(fields, dict):
        raise _bad(path, f"an object for tensor {shown}", _show(fields))
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str):
        raise _bad(path, f"the name of a dtype for tensor {shown}", _show(dtype))
    if not _all_counts(shape) or len(shape) > MAX_DIMENSIONS:
        expected = f"a shape of at most {MAX_DIMENSIONS} whole numbers"
        raise _bad(path, f"{expected} for tensor {shown}", _show(shape))
    if not _all_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"two ascending data_offsets for tensor {shown}", _show(offsets))
    start, stop = data_start + offsets[0], data_start + offsets[1]
    if stop > reader.size:
        raise SkipError(
            "truncated",
            f"{path}: expected tensor {shown} to end at byte {stop}, found a file of {reader.size} bytes; "
            "fetch it again",
        )
    if dtype in DTYPES:
        length = math.prod(shape) * DTYPES[dtype].itemsize
        if length != stop - start:
            raise _bad(path, f"{length} bytes for tensor {shown} ({dtype} {_show(shape)})", f"{stop - start}")
    return TensorEntry(name, dtype, tuple(shape), start, stop)


def _all_counts(value: object) -> TypeGuard[list[int]]:
    # `type` and not isinstance: True is an int in Python and no dimension in JSON.
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_DIMENSION for item in value)


def _left_out(path: str, entry: TensorEntry) -> SkipError | None:
    if not is_plain(entry.name):
        return SkipError(
            "bad_name",
            f"{path}: expected tensor names of 1 to 1024 characters, found {escaped(entry.name)!r}",
        )
    if entry.dtype not in DTYPES:
        return SkipError(
            "unknown_dtype",
            f"{path}: tensor {entry.name}: expected one of {', '.join(DTYPES)}, found {escaped(entry.dtype)}",
        )
    return None


def _check_overlap(path: str, spans: Iterable[tuple[int, int, str]]) -> None:
    end, last = 0, ""
    for start, stop, name in sorted(span for span in spans if span[0] < span[1]):
        if start < end:
            raise _bad(
                path,
                "tensors that do not overlap",
                f"{escaped(name)} inside {escaped(last)}, at byte {start}",
            )
        end, last = stop, name


def _check_metadata(path: str, metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(path, "__metadata__ that is an object of strings", _show(metadata))


def _bad(path: str, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{path}: expected {expected}, found {found}")


def _show(value: object) -> str:
    """A short picture of a value from JSON, whatever its size or depth."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        if len(value) > 4 or any(isinstance(item, list) for item in value):
            return f"a list of {len(value)}"
        return f"[{', '.join(_show(item) for item in value)}]"
    # Python refuses to print integers of more than 4300 digits.
    return "a huge number" if isinstance(value, int) and value > 2**64 else escaped(repr(value)[:80])
