"""The directory of a zip file, and where in the file each entry's bytes are; nothing is unpacked.

APPNOTE.TXT of PKWARE: local headers and data, then the central directory, then its end record (with a zip64 record
before it in files above 4 GiB). Names are keys only and never become paths.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from crawl.names import escaped
from crawl.source import RangeReader
from store.errors import SkipError

__all__ = ["ZipEntry", "data_start", "read_directory"]

MAX_DIRECTORY: Final = 16 << 20
"""Bytes. A torch file has about 60 a tensor."""
MAX_ENTRIES: Final = 200_000

_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_COMMENT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One entry: `header` is where its local header begins, `stop` where its data ends at the latest."""

    name: str
    compressed: bool
    size: int
    header: int
    stop: int


def read_directory(reader: RangeReader) -> dict[str, ZipEntry]:
    """Entries by name, in the order of their headers.

    Raises SkipError: "truncated" when the file has no end record, "bad_zip" for everything that is no directory of
    entries that lie apart from each other in this file; what the reader raises.
    """
    offset, size, count = _find_directory(reader)
    raw = bytearray(size)
    reader.read_into(offset, memoryview(raw))
    found: dict[str, ZipEntry] = {}
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > size:
            raise _bad(reader, f"{count} entries in its directory", f"{len(found)}")
        fields = _CENTRAL.unpack_from(raw, at)
        signature, flags, method, stored, length = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_length, extra_length, comment_length, header = fields[10], fields[11], fields[12], fields[16]
        at += _CENTRAL.size
        if signature != b"PK\1\2" or at + name_length + extra_length + comment_length > size:
            raise _bad(reader, f"{count} entries in its directory", f"{len(found)}")
        name = bytes(raw[at : at + name_length]).decode("utf-8", "replace")
        extra = bytes(raw[at + name_length : at + name_length + extra_length])
        at += name_length + extra_length + comment_length
        length, stored, header = _widened(reader, extra, (length, stored, header))
        packed = method != 0 or bool(flags & 1)
        if not packed and length != stored:
            raise _bad(reader, f"{length} bytes of {escaped(name)}", f"{stored}")
        if name in found:
            raise _bad(reader, "names that differ", f"{escaped(name)} twice")
        found[name] = ZipEntry(name, packed, stored, header, offset)
    return _apart(reader, found, offset)


def data_start(reader: RangeReader, entry: ZipEntry) -> int:
    """Where the data of `entry` begins: its local header has a length of its own. Raises SkipError("bad_zip")."""
    raw = bytearray(_LOCAL.size)
    reader.read_into(entry.header, memoryview(raw))
    fields = _LOCAL.unpack(raw)
    start = entry.header + _LOCAL.size + int(fields[9]) + int(fields[10])
    if fields[0] != b"PK\3\4" or start + entry.size > entry.stop:
        raise _bad(reader, f"{entry.size} bytes of {escaped(entry.name)}", "another entry there")
    return start


def _find_directory(reader: RangeReader) -> tuple[int, int, int]:
    """Offset and size in bytes of the central directory, and the number of its entries."""
    tail = min(reader.size, _END.size + _COMMENT)
    raw = bytearray(tail)
    reader.read_into(reader.size - tail, memoryview(raw))
    at = raw.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > tail:
        raise SkipError("truncated", f"{reader.path}: expected a zip file's end record, found none; fetch it again")
    _, _, _, _, count, size, offset, _ = _END.unpack_from(raw, at)
    end = reader.size - tail + at
    if 0xFFFF in (count,) or 0xFFFFFFFF in (size, offset):
        offset, size, count, end = _find_zip64(reader, end)
    if size > MAX_DIRECTORY or count > MAX_ENTRIES:
        raise _bad(reader, f"at most {MAX_ENTRIES} entries", f"{count} in {size} bytes")
    if offset + size > end:
        raise _bad(reader, "its directory before its end record", f"{size} bytes at {offset}")
    return offset, size, count


def _find_zip64(reader: RangeReader, end: int) -> tuple[int, int, int, int]:
    if end < _LOCATOR.size:
        raise _bad(reader, "a zip64 locator", "none")
    raw = bytearray(_LOCATOR.size)
    reader.read_into(end - _LOCATOR.size, memoryview(raw))
    signature, _, record, _ = _LOCATOR.unpack(raw)
    if signature != b"PK\6\7" or record + _END64.size > end:
        raise _bad(reader, "a zip64 locator", "none")
    raw = bytearray(_END64.size)
    reader.read_into(record, memoryview(raw))
    fields = _END64.unpack(raw)
    if fields[0] != b"PK\6\6":
        raise _bad(reader, "a zip64 end record", "none")
    return int(fields[9]), int(fields[8]), int(fields[7]), record


def _widened(reader: RangeReader, extra: bytes, narrow: tuple[int, int, int]) -> tuple[int, int, int]:
    """Length, stored length and offset, those that are 0xFFFFFFFF taken from the zip64 field, in that order."""
    if 0xFFFFFFFF not in narrow:
        return narrow
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{len(body) // 8}Q", body))
            values = [next(wide, -1) if value == 0xFFFFFFFF else value for value in narrow]
            if min(values) >= 0:
                return values[0], values[1], values[2]
    raise _bad(reader, "a zip64 field", "none")


def _apart(reader: RangeReader, found: dict[str, ZipEntry], directory: int) -> dict[str, ZipEntry]:
    """The entries in the order of the file, each ending before the next begins."""
    ordered = sorted(found.values(), key=lambda entry: entry.header)
    result: dict[str, ZipEntry] = {}
    following_ones = [each.header for each in ordered[1:]] + [directory] * bool(ordered)
    for entry, following in zip(ordered, following_ones, strict=True):
        if entry.header + _LOCAL.size + entry.size > following:
            raise _bad(reader, f"{escaped(entry.name)} apart from what follows", "them overlapping")
        result[entry.name] = ZipEntry(entry.name, entry.compressed, entry.size, entry.header, following)
    return result


def _bad(reader: RangeReader, expected: str, found: str) -> SkipError:
    return SkipError("bad_zip", f"{reader.path}: expected a zip file with {expected}, found {found}")
