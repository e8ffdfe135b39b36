"""Readers of one model's files, opened once: for the header, and again for the tensors."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from crawl.safetensors_file import TensorEntry
from crawl.source import FileRef, ModelRef, RangeReader, Source

__all__ = ["Readers", "runs"]

_GAP: Final = 4096
"""Bytes between two tensors that are cheaper to read than to ask around."""


def runs(entries: Iterable[TensorEntry]) -> dict[int, int]:
    """Start -> stop of the stretches of a file that these tensors fill without a gap to speak of."""
    found: dict[int, int] = {}
    first = last = None
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.stop == entry.start:
            continue
        if first is None or last is None or entry.start > last + _GAP:
            first = entry.start
        last = entry.stop
        found[first] = last
    return found


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

    def __call__(self, file: FileRef) -> SharedReader:
        if file.path not in self._open:
            self._open[file.path] = SharedReader(self._source.open(self._model, file))
        return self._open[file.path]

    @property
    def bytes_read(self) -> int:
        return sum(shared.bytes_read for shared in self._open.values())

    def close(self) -> None:
        for shared in self._open.values():
            shared.reader.close()
