"""The tensors of a file of any format as arrays, and what was left out of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import TensorEntry
from crawl.formats.reading import read_entries
from crawl.local_file import LocalReader, open_below
from crawl.names import is_plain
from crawl.source import FileRef
from store.dtypes import DTYPES
from store.errors import SkipError

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class FileEntries:
    """What is in one file: its tensors, and (name, reason) of those that were left out."""

    folder: Path
    file: FileRef
    entries: dict[str, TensorEntry]
    left_out: dict[str, str]

    def open(self, file: FileRef) -> LocalReader:
        return open_below(os.path.realpath(self.folder), str(self.folder / file.path), file.path)

    def array(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The values of a tensor in its shape; flat, from `start` up to `stop`, where these are given."""
        entry = self.entries[name]
        stop_at = entry.elements if stop is None else stop
        kind = DTYPES[entry.dtype]
        raw = bytearray((stop_at - start) * kind.itemsize)
        entry.opened(self.open, self.file)(start * kind.itemsize, memoryview(raw))
        flat = np.frombuffer(raw, kind)
        return flat.reshape(entry.shape) if stop is None and not start else flat

    @property
    def arrays(self) -> Arrays:
        return {name: self.array(name) for name in self.entries}


def entries_of(path: Path, kind: str) -> FileEntries:
    """Read the headers of `path`, a file of format `kind` beside which other files may lie."""
    siblings = {
        each.relative_to(path.parent).as_posix(): FileRef(
            each.relative_to(path.parent).as_posix(), each.lstat().st_size
        )
        for each in path.parent.rglob("*")
        if each.is_file()
    }
    file = siblings[path.name]
    left_out: dict[str, str] = {}

    def note(where: str, name: str, why: SkipError) -> None:
        assert is_plain(name or "x")
        assert is_plain(str(why)), str(why)
        left_out[name] = why.reason

    found = FileEntries(path.parent, file, {}, left_out)
    entries = read_entries(kind, found.open, file, note, siblings)
    found.entries.update({entry.name: entry for entry in entries})
    assert len(found.entries) == len(entries)
    return found
