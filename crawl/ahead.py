"""Ranges of one remote file, several in flight: asked for before they are needed, used in the order of their bytes.

A range costs a round trip, so ranges whose gap is cheaper than that are asked for as one, and the next ones are on
their way while one is sketched. What waits in memory is bounded in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Self

from crawl.source import RangeReader

__all__ = ["Ahead", "requests_for"]

GAP = 64 * 2**10
"""Bytes between two ranges that are read rather than asked around: a request takes longer than they do at 1 MB/s."""

LARGEST = 4 * 2**20
"""Bytes of one request at most."""

WAITING = 16 * 2**20
"""Bytes in flight or in memory at most."""

Range = tuple[int, int]


def requests_for(wanted: Iterable[Range], gap: int = GAP, largest: int = LARGEST) -> list[Range]:
    """Ranges (start, stop) in ascending order that hold all `wanted` ones.

    They are joined over gaps of up to `gap` bytes and cut to `largest`. Empty ranges want nothing.
    """
    joined: list[Range] = []
    for start, stop in sorted(each for each in wanted if each[0] < each[1]):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return [(at, min(at + largest, stop)) for start, stop in joined for at in range(start, stop, largest)]


class Ahead:
    """Reads `requests` of one file through `fetch`, on the threads of `pool`; what lies in none of them by `reader`.

    Reads ascend: what ends before one of them begins is let go. One tensor at a time is read, and what it reads beside
    its own bytes (scales that lie elsewhere) lets go of nothing. Raises what `fetch` and `reader` raise.
    """

    def __init__(
        self, reader: RangeReader, requests: Sequence[Range], fetch: Callable[[int, int], memoryview], pool: Executor
    ) -> None:
        self.path, self.size = reader.path, reader.size
        self._reader, self._fetch, self._pool = reader, fetch, pool
        self._todo = deque(requests)
        self._coming: deque[tuple[int, int, Future[memoryview]]] = deque()
        self._waiting = 0
        self._own: Range | None = None
        self._ask()

    @property
    def bytes_read(self) -> int:
        """Of what no request holds."""
        return self._reader.bytes_read

    def prefetch(self, start: int, stop: int) -> None:
        """Nothing: what will be read is planned."""

    def turn_to(self, start: int, stop: int) -> None:
        """The tensor that is read now has these bytes as its own."""
        self._own = start, stop

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of `buffer` with the bytes from `offset`."""
        if self._own is not None and not self._own[0] <= offset < self._own[1]:
            self._reader.read_into(offset, buffer)
            return
        target = buffer.cast("B") if buffer.nbytes else buffer
        filled = 0
        while filled < target.nbytes:
            at = offset + filled
            self._let_go(at)
            left = target[filled:]
            start, stop = (self._coming[0][0], self._coming[0][1]) if self._coming else (at + len(left), 0)
            if at < start:
                count = min(len(left), start - at)
                self._reader.read_into(at, left[:count])
            else:
                count = min(len(left), stop - at)
                left[:count] = self._coming[0][2].result()[at - start : at - start + count]
            filled += count

    def close(self) -> None:
        """Ask for nothing more."""
        self._todo.clear()
        for _, _, future in self._coming:
            future.cancel()
        self._coming.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing: who planned the requests closes."""

    def _let_go(self, before: int) -> None:
        while self._coming and self._coming[0][1] <= before:
            start, stop, _ = self._coming.popleft()
            self._waiting -= stop - start
            self._ask()

    def _ask(self) -> None:
        while self._todo and (not self._coming or self._waiting + self._todo[0][1] - self._todo[0][0] <= WAITING):
            start, stop = self._todo.popleft()
            self._coming.append((start, stop, self._pool.submit(self._fetch, start, stop)))
            self._waiting += stop - start
