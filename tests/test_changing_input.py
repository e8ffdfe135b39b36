"""Files that go or change while they are read: told, and read by the next run if they are then whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crawl.folder import FolderSource
from crawl.local_file import LocalReader
from crawl.source import FileRef, ModelRef, SkippedModel
from tests.runs import GOOD, answers, check_pair, index, leftovers, related, skipped
from tests.weights import family, root, save

FILE = "model.safetensors"


class Vanishing(FolderSource):
    """Its model bad/model is deleted when it has been listed."""

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        listing = list(super().models())
        shutil.rmtree(Path(self._root) / "bad")
        yield from listing


def test_a_model_that_is_deleted_during_the_crawl_is_told(tmp_path: Path) -> None:
    family(tmp_path / "source", "good", 1)
    save(tmp_path / "source" / "bad" / "model", root(9))
    source = tmp_path / "source"
    row = check_pair(source, tmp_path / "graph", first=Vanishing(source))
    assert (row["name"], row["scope"], row["reason"]) == ("bad/model", "model", "vanished")
    assert "bad/model is gone: expected its weights below" in row["message"]


class Meddled(LocalReader):
    """A file that somebody changes when its first tensor is about to be read."""

    change: Callable[[], object]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if buffer.nbytes == 4 * 48 * 48:
            self.change()
        super().read_into(offset, buffer)


class MeddledSource(FolderSource):
    def __init__(self, path: Path, change: Callable[[Path], object]) -> None:
        super().__init__(path)
        self._change = change

    def open(self, model: ModelRef, file: FileRef) -> LocalReader:
        reader = super().open(model, file)
        path = Path(self._root) / model.name / file.path
        if model.name == "bad/model":
            reader.close()
            reader = Meddled(os.open(path, os.O_RDONLY), f"{model.name}/{file.path}")
            reader.change = lambda: self._change(path)
        return reader


@pytest.mark.parametrize(
    ("meddle", "reason", "says"),
    [
        (lambda path: os.truncate(path, 1000), "truncated", "expected 9216 bytes at offset"),
        (lambda path: os.utime(path, (1, 1)), "changed_while_reading", "rewritten while it was read"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_told(
    tmp_path: Path, meddle: Callable[[Path], object], reason: str, says: str
) -> None:
    family(tmp_path / "source", "good", 1)
    save(tmp_path / "source" / "bad" / "model", root(9))
    index(MeddledSource(tmp_path / "source", meddle), tmp_path / "graph")
    (row,) = skipped(tmp_path / "graph")
    assert (row["name"], row["scope"], row["reason"]) == ("bad/model", "model", reason)
    assert f"{FILE}" in row["message"]
    assert says in row["message"]
    shutil.rmtree(tmp_path / "source" / "bad")
    index(tmp_path / "source", tmp_path / "graph")
    assert set(answers(tmp_path / "graph")) == set(GOOD)
    assert related(tmp_path / "graph", *GOOD)
    assert leftovers(tmp_path / "graph") == []
