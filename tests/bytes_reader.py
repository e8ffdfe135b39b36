"""A file in memory, as a reader of ranges."""

from __future__ import annotations

from store.errors import SkipError


class BytesReader:
    """A RangeReader over bytes in memory, which also notes the largest buffer it was asked to fill."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.path = "model.safetensors"
        self.content = content
        self.size = len(content) if size is None else size
        self.bytes_read = 0
        self.largest = 0

    def prefetch(self, start: int, stop: int) -> None:
        pass

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.largest = max(self.largest, len(buffer))
        part = self.content[offset : offset + len(buffer)]
        if len(part) < len(buffer):
            raise SkipError("truncated", self.path)
        buffer[:] = part
        self.bytes_read += len(part)

    def close(self) -> None:
        pass

    def __enter__(self) -> BytesReader:
        return self

    def __exit__(self, *_: object) -> None:
        pass
