"""What a source of models is: a listing, the files of one model, and the bytes of one file.

A source knows nothing of tensors and a reader of tensors knows nothing of sources: they meet at `RangeReader`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

__all__ = ["FileRef", "ModelRef", "RangeReader", "SkippedModel", "Source"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One revision of one model, as a source lists it.

    `name` is `org/name` on the Hub and the path below the source (with `/`) for folders. `revision` is the commit sha
    on the Hub and in a cache, and for a folder a digest of the files' names, sizes and modification times: an
    unchanged revision costs no reading. Times are UTC and aware, or None where the source does not say.
    """

    name: str
    revision: str
    created_at: datetime | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SkippedModel:
    """Something in the listing that is not a usable model, and why: it becomes a row of table `skipped`."""

    name: str
    reason: str
    message: str
    revision: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of a model: `path` is relative to the model with `/`, `size` is in bytes."""

    path: str
    size: int


@runtime_checkable
class RangeReader(Protocol):
    """Random access to the bytes of one file; a context manager. Counts what it reads."""

    path: str
    size: int

    @property
    def bytes_read(self) -> int:
        """Bytes received so far; for a remote file, over the network."""

    def prefetch(self, start: int, stop: int) -> None:
        """Announce that the bytes from `start` up to `stop` will be read, in order: a remote reader fetches them in few
        requests, a local one has nothing to do."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of `buffer` with the bytes from `offset`.

        Raises SkipError("truncated", ...) when the file ends before the buffer is full, SkipError("vanished", ...)
        when the file is gone, and RetryError when the network failed.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Source(Protocol):
    """A folder, a Hugging Face cache, or a Hub."""

    @property
    def label(self) -> str:
        """`folder:/abs/path`, `cache:/abs/path` or `hub:https://host`: stored with each model and run."""

    @property
    def remote(self) -> bool:
        """True when bytes cost bandwidth, so that a byte budget a model applies."""

    @property
    def requests(self) -> int:
        """HTTP requests made so far (0 for local sources)."""

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        """List the models, in a fixed order for local sources. Nothing is opened but directories and metadata.

        Raises StopError when the source itself cannot be read (no such folder, no such host, a bad token).
        """

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        """The model's files, sorted by path. Raises SkipError("vanished", ...) when the model is gone."""

    def open(self, model: ModelRef, file: FileRef) -> RangeReader:
        """Open one file for reading by range. Raises SkipError when it is gone or not readable."""

    def read_text(self, model: ModelRef, path: str, limit: int) -> str | None:
        """A small text file of the model (README.md, config.json), at most `limit` bytes of it decoded as UTF-8
        with replacement; None when there is none."""
