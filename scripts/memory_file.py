"""Bytes in memory as a file that is read by range."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from store.errors import SkipError

__all__ = ["MemoryFile"]


class MemoryFile:
    """A RangeReader over bytes."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self.size = len(content)
        self.bytes_read = 0
        self._content = content

    def prefetch(self, start: int, stop: int) -> None:
        """Nothing: it is here."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer. Raises SkipError("truncated", ...)."""
        target = buffer.cast("B") if buffer.nbytes else buffer
        part = self._content[offset : offset + target.nbytes]
        if len(part) < target.nbytes or offset < 0:
            raise SkipError("truncated", f"{self.path}: expected {target.nbytes} bytes at {offset}, found {len(part)}")
        target[:] = part
        self.bytes_read += len(part)

    def close(self) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
