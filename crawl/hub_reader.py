"""A remote file read by range: few requests, and no byte that nobody asked for."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from store.errors import SkipError

__all__ = ["HubReader", "Ranges"]

HEAD = 100_000
"""Bytes of the first request: it holds the whole header of most files."""

CHUNK = 8 * 2**20
"""Bytes of one request, and kept in memory, at most."""

FIRST_AHEAD = 64 * 2**10


class Ranges(Protocol):
    """What a reader reads from: `fetch` gives exactly the bytes from `start` up to `stop`."""

    bytes_received: int

    def fetch(self, start: int, stop: int) -> bytearray: ...


class HubReader:
    """A `RangeReader` that fetches on demand and keeps the file's head and the last piece it fetched.

    A caller that knows what it will read announces it with `prefetch`: that range then comes in pieces of
    8 MiB, and nothing past its end. Without it, reading on from where the last piece ended fetches twice as
    much each time, up to 8 MiB, so that streaming in small blocks costs few requests and at most as many
    bytes again as were read.
    """

    def __init__(self, path: str, size: int, ranges: Ranges, head: int = HEAD, chunk: int = CHUNK) -> None:
        self.path = path
        self.size = size
        self.bytes_read = 0
        """Bytes received over the network."""
        self._ranges: Ranges | None = ranges
        self._head_length, self._chunk = min(head, size), chunk
        self._head = memoryview(b"")
        self._window_start, self._window = 0, memoryview(b"")
        self._announced: tuple[int, int] | None = None
        self._ahead = 0

    def prefetch(self, start: int, stop: int) -> None:
        """Announce that bytes `start` up to `stop` will be read whole and in order. Fetches nothing yet.

        Takes the place of the last announcement; from the first one on nothing unannounced is fetched ahead.
        """
        self._announced = (max(0, start), min(stop, self.size))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of `buffer` with the bytes from `offset`.

        Raises SkipError("truncated", ...) when the file ends first, and what the ranges raise.
        """
        target = buffer.cast("B") if buffer.nbytes else buffer
        length = target.nbytes
        if offset + length > self.size:
            raise SkipError(
                "truncated",
                f"{self.path}: expected {length} bytes at offset {offset}, found a file of {self.size} bytes",
            )
        filled = 0
        while filled < length:
            position = offset + filled
            piece = self._kept(position) or self._load(position, length - filled)
            count = min(len(piece), length - filled)
            target[filled : filled + count] = piece[:count]
            filled += count

    def close(self) -> None:
        self._ranges = None
        self._head = self._window = memoryview(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _kept(self, position: int) -> memoryview:
        """What is in memory from `position` on; empty when nothing is."""
        inside = position - self._window_start
        return self._head[position:] or (self._window[inside:] if inside >= 0 else self._window[:0])

    def _load(self, position: int, wanted: int) -> memoryview:
        if self._ranges is None:
            raise ValueError(f"{self.path} is closed")
        start, stop = self._next_request(position, wanted)
        # The old piece goes first, or two are in memory.
        self._window = memoryview(b"")
        fetched = memoryview(self._ranges.fetch(start, stop))
        self.bytes_read = self._ranges.bytes_received
        if len(fetched) != stop - start:
            raise SkipError("truncated", f"{self.path}: expected {stop - start} bytes, found {len(fetched)}")
        if start < self._head_length and start == 0 and not self._head:
            self._head = fetched
        else:
            self._window_start, self._window = start, fetched
        return fetched[position - start :]

    def _next_request(self, position: int, wanted: int) -> tuple[int, int]:
        if self._announced is not None and self._announced[0] <= position < self._announced[1]:
            return position, min(self._announced[1], position + self._chunk)
        if position < self._head_length and not self._head:
            return 0, self._head_length
        goes_on = bool(self._window) and position == self._window_start + len(self._window)
        if goes_on and self._announced is None:
            self._ahead = min(self._chunk, max(FIRST_AHEAD, 2 * self._ahead))
        else:
            self._ahead = 0
        return position, min(self.size, position + min(self._chunk, max(wanted, self._ahead)))
