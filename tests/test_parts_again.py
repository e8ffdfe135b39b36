"""A run that is killed while it solves what it has compared does not compare all models again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import indexer.parts_again
import indexer.update
from indexer.parts import Known
from indexer.parts_again import forget_parts, parts_again
from store.generation import GraphFolder
from tests.runs import answers, index, leftovers
from tests.weights import family

PARTS = [[3, 8], [5], [6, 9, 11]]


def known(ids: list[int] | None = None) -> Known:
    numbers = np.array(ids or [3, 5, 6, 8, 9, 11], np.int64)
    contents = np.stack([numbers, numbers * 7], axis=1).astype(np.uint64)
    return Known(numbers, contents, np.zeros(len(numbers), np.int64))


def never() -> list[list[int]]:
    raise AssertionError("compared again")


@pytest.fixture(autouse=True)
def of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer.parts_again, "LEAST", 2)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "0123.vectors"
    path.write_bytes(b"vectors")
    return path


def test_parts_are_found_once(vectors: Path) -> None:
    assert parts_again(vectors, known(), lambda: PARTS) == PARTS
    assert parts_again(vectors, known(), never) == PARTS
    forget_parts(vectors)
    assert [path.name for path in vectors.parent.iterdir()] == [vectors.name]
    with pytest.raises(AssertionError, match="compared again"):
        parts_again(vectors, known(), never)


def test_those_of_other_models_and_damaged_ones_are_found_again(vectors: Path) -> None:
    parts_again(vectors, known(), lambda: PARTS)
    for others in (known([3, 5, 6, 8, 9]), known([3, 5, 6, 8, 9, 12])):
        with pytest.raises(AssertionError, match="compared again"):
            parts_again(vectors, others, never)
    kept = next(path for path in vectors.parent.iterdir() if path != vectors)
    whole = kept.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\x07", whole[:40], b""):
        kept.write_bytes(damaged)
        assert parts_again(vectors, known(), lambda: PARTS[::-1]) == PARTS[::-1]
    parts_again(vectors, known(), lambda: PARTS)
    vectors.unlink()
    with pytest.raises(AssertionError, match="compared again"):
        parts_again(vectors, known(), never)


def test_a_run_that_is_stopped_while_it_solves_compares_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, graph = tmp_path / "source", tmp_path / "graph"
    for at in range(3):
        family(source, f"family-{at}", at + 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(indexer.update, "_solve", stop)
        with pytest.raises(KeyboardInterrupt):
            index(source, graph)
    assert GraphFolder(graph).building.exists()
    with monkeypatch.context() as patched:
        patched.setattr(indexer.update, "all_parts", lambda *_: never())
        index(source, graph)
    index(source, tmp_path / "afresh")
    assert answers(graph) == answers(tmp_path / "afresh")
    assert leftovers(graph) == []
