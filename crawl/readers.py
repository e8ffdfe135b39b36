"""Readers of one model's files, opened once: for the header, and again for the tensors."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import Final, Self

from crawl.ahead import Ahead, requests_for
from crawl.source import FileRef, ModelRef, RangeReader, Source

__all__ = ["Readers"]

IN_FLIGHT: Final = 6
"""Ranges of one model asked for at the same time."""

_HEAD: Final = 100_000
"""Bytes that came with the header, and are kept."""


class SharedReader:
    """A reader that outlives each `with`: the head that came with the header also holds the first tensors."""

    def __init__(self, reader: RangeReader) -> None:
        self.reader = reader
        self.path = reader.path
        self.size = reader.size
        self.prefetch = reader.prefetch
        self.read_into = reader.read_into

    @property
    def bytes_read(self) -> int:
        return self.reader.bytes_read

    def close(self) -> None:
        """Nothing: `Readers.close` closes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Readers:
    """One reader a file of one model, and the bytes that they read."""

    def __init__(self, source: Source, model: ModelRef) -> None:
        self._source = source
        self._model = model
        self._open: dict[str, SharedReader] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: Ahead | None = None
        self._planned = ""
        self._lock = Lock()
        self._bytes_ahead = 0

    def __call__(self, file: FileRef) -> RangeReader:
        """What reads a file: once its ranges are planned, through them."""
        if self._ahead is not None and self._planned == file.path:
            return self._ahead
        if file.path not in self._open:
            self._open[file.path] = SharedReader(self._source.open(self._model, file))
        return self._open[file.path]

    def plan(self, file: FileRef, wanted: Iterable[tuple[int, int]], *, in_order: bool = True) -> None:
        """Announce that this file will be read now, the `wanted` byte ranges (start, stop) of it in ascending order.

        Of a remote file they are on their way before they are read. A local one has nothing to wait for. Not `in_order`
        says that other bytes are read between them.
        """
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        reader = self(file)
        if not self._source.remote:
            return
        requests = requests_for((max(start, min(_HEAD, file.size)), stop) for start, stop in wanted)
        if not requests or (in_order and len(requests) == 1):
            for start, stop in requests:
                reader.prefetch(start, stop)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ranges")
        self._planned = file.path
        self._ahead = Ahead(reader, requests, lambda start, stop: self._fetch(file, start, stop), self._pool)

    def turn_to(self, start: int, stop: int) -> None:
        """Announce that the tensor with these bytes of the planned file is read next."""
        if self._ahead is not None:
            self._ahead.turn_to(start, stop)

    def _fetch(self, file: FileRef, start: int, stop: int) -> memoryview:
        data = memoryview(bytearray(stop - start))
        with self._source.open(self._model, file) as reader:
            try:
                reader.prefetch(start, stop)
                reader.read_into(start, data)
            finally:
                with self._lock:
                    self._bytes_ahead += reader.bytes_read
        return data

    @property
    def bytes_read(self) -> int:
        return self._bytes_ahead + sum(shared.bytes_read for shared in self._open.values())

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for shared in self._open.values():
            shared.reader.close()
