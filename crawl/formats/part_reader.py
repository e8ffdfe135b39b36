"""A part of a file, read as a file of its own."""

from __future__ import annotations

from crawl.source import RangeReader

__all__ = ["PartReader"]


class PartReader:
    """`size` bytes of an open file from byte `start` on. The file stays its owner's to close."""

    def __init__(self, reader: RangeReader, start: int, size: int) -> None:
        self._reader, self.start = reader, start
        self.path, self.size = reader.path, size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """As `RangeReader.read_into`, of a range that lies in the part."""
        if offset < 0 or offset + len(buffer) > self.size:
            raise ValueError(f"expected a range of the {self.size} bytes, found {len(buffer)} at {offset}")
        self._reader.read_into(self.start + offset, buffer)
