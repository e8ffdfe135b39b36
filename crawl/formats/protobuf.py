"""Protocol-buffer messages walked in place: field numbers and where their bytes are, nothing of the data read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from crawl.formats.range_stream import RangeStream
from store.errors import SkipError

__all__ = ["Field", "Walk"]

MAX_FIELDS: Final = 1_000_000
MAX_NUMBERS: Final = 4_000_000
"""Of repeated fields. A number of one byte is eight in a list."""


class Field(NamedTuple):
    """One field: `value` of a number, else the `length` bytes from `start` on."""

    number: int
    value: int
    start: int
    length: int
    wire: int


class Walk:
    """Fields of the messages of one file; all of them together are bounded, and so are the numbers in them."""

    def __init__(self, stream: RangeStream, shown: str) -> None:
        self.stream = stream
        self.shown = shown
        self._left, self._numbers = MAX_FIELDS, MAX_NUMBERS

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message from `start` up to `stop`. Raises SkipError("bad_header", ...)."""
        at = start
        while at < stop:
            self._left -= 1
            if self._left < 0:
                raise SkipError("too_large", f"{self.shown}: expected at most {MAX_FIELDS} fields")
            self.stream.seek(at)
            key = self._varint(stop)
            wire, number = key & 7, key >> 3
            value, length = 0, 0
            if wire == 0:
                value = self._varint(stop)
                start_of = self.stream.tell()
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
                start_of = self.stream.tell()
            elif wire == 2:
                length = self._varint(stop)
                start_of = self.stream.tell()
            else:
                raise self._bad(f"wire type {wire} at byte {at}")
            if start_of + length > stop:
                raise self._bad(f"a field of {length} bytes at {at} in a message that ends at {stop}")
            yield Field(number, value, start_of, length, wire)
            at = start_of + length

    def bytes_of(self, field: Field, limit: int) -> bytes:
        """The bytes of a field. Raises SkipError("bad_header", ...) when there are more than `limit`."""
        if field.length > limit:
            raise self._bad(f"a text of {field.length} bytes")
        self.stream.seek(field.start)
        return self.stream.exactly(field.length)

    def text(self, field: Field, limit: int = 4096) -> str:
        """The text of a field; bytes that are not UTF-8 become lone surrogates."""
        return self.bytes_of(field, limit).decode("utf-8", "surrogateescape")

    def numbers(self, field: Field, limit: int = 1 << 20) -> list[int]:
        """The integers of a repeated field, packed or single."""
        if field.wire == 0:
            self._count(1)
            return [_signed(field.value)]
        found: list[int] = []
        at, value, shift = 0, 0, 0
        raw = self.bytes_of(field, limit)
        for at in range(len(raw)):
            value |= (raw[at] & 0x7F) << shift
            shift += 7
            if not raw[at] & 0x80:
                found.append(_signed(value))
                value, shift = 0, 0
            elif shift > 63:
                raise self._bad("a number of more than 64 bits")
        self._count(len(found))
        return found

    def _count(self, numbers: int) -> None:
        self._numbers -= numbers
        if self._numbers < 0:
            raise SkipError("too_large", f"{self.shown}: expected at most {MAX_NUMBERS} numbers beside the weights")

    def _varint(self, stop: int) -> int:
        value, shift = 0, 0
        while shift < 70 and self.stream.tell() < stop:
            byte = self.stream.exactly(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
        raise self._bad(f"a number without end at byte {self.stream.tell()}")

    def _bad(self, found: str) -> SkipError:
        return SkipError("bad_header", f"{self.shown}: expected protocol-buffer messages, found {found}")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
