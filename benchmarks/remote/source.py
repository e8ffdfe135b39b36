"""The same models as a local source: to read all of their bytes, which no network could bring in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from benchmarks.remote.models import File, Repository
from crawl.source import FileRef, ModelRef, SkippedModel

__all__ = ["WholeSource"]


class WholeSource:
    """Repositories, read by whoever asks, in this process."""

    label = "folder:/whole"
    remote = False
    requests = 0

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self._repositories = {repository.name: repository for repository in repositories}

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        for name, repository in sorted(self._repositories.items()):
            yield ModelRef(name, repository.sha, datetime.fromisoformat(repository.created))

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        return [FileRef(path, file.size) for path, file in sorted(self._repositories[model.name].files.items())]

    def open(self, model: ModelRef, file: FileRef) -> WholeReader:
        return WholeReader(self._repositories[model.name].files[file.path])

    def read_text(self, model: ModelRef, path: str, limit: int) -> str | None:
        file = self._repositories[model.name].files.get(path)
        return file.read(0, min(limit, file.size)).decode() if file else None


class WholeReader:
    """A `RangeReader` of one file."""

    def __init__(self, file: File) -> None:
        self.path, self.size, self.bytes_read = file.path, file.size, 0
        self._read = file.read

    def prefetch(self, start: int, stop: int) -> None:
        pass

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self._read(offset, offset + len(buffer))
        self.bytes_read += len(buffer)

    def close(self) -> None:
        pass

    def __enter__(self) -> WholeReader:
        return self

    def __exit__(self, *_: object) -> None:
        pass
