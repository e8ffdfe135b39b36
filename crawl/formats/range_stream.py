"""A file read from the front, a piece at a time, up to a limit: for formats whose headers have no length."""

from __future__ import annotations

from typing import Final

from crawl.source import RangeReader
from store.errors import SkipError

__all__ = ["RangeStream"]

PIECE: Final = 1 << 16


class RangeStream:
    """Bytes of `reader` in order, from `start` on, `limit` of them at most; `piece` are fetched at once."""

    def __init__(self, reader: RangeReader, limit: int, start: int = 0, piece: int = PIECE) -> None:
        self._reader = reader
        self._end = min(reader.size, start + limit)
        self._limited = start + limit < reader.size
        self._at = start
        self._least = piece
        self._piece_start = start
        self._piece = b""

    def tell(self) -> int:
        """Offset in the file of the next byte."""
        return self._at

    @property
    def left(self) -> int:
        """Bytes that can still be read."""
        return self._end - self._at

    def skip(self, count: int) -> None:
        """Pass over `count` bytes. Raises as `exactly` does."""
        self._check(count)
        self._at += count

    def seek(self, position: int) -> None:
        """Go on from `position`, an offset in the file that has been checked."""
        self._at = min(position, self._end)

    def exactly(self, count: int) -> bytes:
        """`count` bytes. Raises SkipError: "truncated" at the end of the file, "too_large" at the limit."""
        inside = self._at - self._piece_start
        if inside >= 0 and inside + count <= len(self._piece):
            self._at += count
            return self._piece[inside : inside + count]
        self._check(count)
        return self.read(count)

    def _check(self, count: int) -> None:
        if count <= self.left:
            return
        if self._limited:
            raise SkipError("too_large", f"{self._reader.path}: expected a header that ends before byte {self._end}")
        raise SkipError(
            "truncated",
            f"{self._reader.path}: expected {count} bytes at offset {self._at}, found a file of {self._reader.size}",
        )

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; fewer only at the end or at the limit."""
        size = min(size, self.left)
        found = bytearray()
        while len(found) < size:
            inside = self._at - self._piece_start
            if not 0 <= inside < len(self._piece):
                self._load(size - len(found))
                inside = 0
            taken = self._piece[inside : inside + size - len(found)]
            found += taken
            self._at += len(taken)
        return bytes(found)

    def readline(self) -> bytes:
        """Up to and with the next line feed."""
        found = bytearray()
        while self.left and not found.endswith(b"\n"):
            inside = self._at - self._piece_start
            if not 0 <= inside < len(self._piece):
                self._load(1)
                inside = 0
            stop = self._piece.find(b"\n", inside)
            taken = self._piece[inside : stop + 1 if stop >= 0 else len(self._piece)]
            found += taken
            self._at += len(taken)
        return bytes(found)

    def _load(self, wanted: int) -> None:
        size = min(self.left, max(self._least, wanted))
        raw = bytearray(size)
        self._reader.read_into(self._at, memoryview(raw))
        self._piece_start, self._piece = self._at, bytes(raw)
