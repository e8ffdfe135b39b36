"""Runs that were interrupted: the next one goes on with what they had, if it can be trusted."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import crawl.ingest
from crawl.folder import FolderSource
from crawl.ingest import ingest
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef
from indexer.update import update
from store.errors import SkipError
from store.generation import GraphFolder, open_reader
from store.progress import SilentProgress
from tests.runs import answers, change_setting, index, leftovers, writer
from tests.weights import family


@pytest.fixture
def source(tmp_path: Path) -> Path:
    family(tmp_path / "source", "good", 1)
    return tmp_path / "source"


@pytest.fixture
def graph(tmp_path: Path, source: Path) -> Path:
    """Generation 1, of two models."""
    index(source, tmp_path / "graph")
    return tmp_path / "graph"


class Stops(SilentProgress):
    """Ctrl-C after `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, n: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def interrupted(source: Path, graph: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph whose run was interrupted after four new models were kept and two more read."""
    monkeypatch.setattr(crawl.ingest, "BATCH_MODELS", 2)
    for at in range(5):
        family(source, f"more-{at}", at + 2)
    with pytest.raises(KeyboardInterrupt) as stopped:
        index(source, graph, Stops(8), workers=3)
    assert stopped.tb is not None
    # The traceback, which is held here, does not keep its threads reading.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sketch")]
    return graph


def test_a_resumed_run_reads_only_what_was_not_kept(source: Path, interrupted: Path) -> None:
    assert len(answers(interrupted)) == 2
    with writer(interrupted, FolderSource(source)) as run:
        assert run.resumed
        report = ingest(FolderSource(source), run, budget=0, complete=True, progress=SilentProgress())
        update(run, mode="default", progress=SilentProgress())
        run.publish()
    assert (report.seen, report.unchanged, report.new) == (12, 6, 6)
    index(source, interrupted.parent / "unbroken")
    assert answers(interrupted) == answers(interrupted.parent / "unbroken")
    with open_reader(interrupted) as connection:
        runs = connection.sql("select run_id, status from runs order by run_id").fetchall()
    assert runs == [(1, "done"), (2, "interrupted"), (3, "done")]


@pytest.mark.parametrize("key", ["base_generation", "schema_version"])
def test_what_another_run_has_half_built_is_not_gone_on_with(source: Path, interrupted: Path, key: str) -> None:
    change_setting(GraphFolder(interrupted).building, key, "7")
    report = index(source, interrupted)
    assert (report.unchanged, report.new) == (2, 10)
    assert leftovers(interrupted) == []


@pytest.mark.parametrize("content", [b"", b"no database", bytes(1 << 20)])
def test_a_damaged_half_built_generation_is_built_anew(source: Path, interrupted: Path, content: bytes) -> None:
    building = GraphFolder(interrupted).building
    building.write_bytes(content)
    building.with_name("building.duckdb.wal.checkpoint").write_bytes(content)
    building.with_name("building.duckdb.tmp").mkdir()
    assert index(source, interrupted).new == 10
    assert len(answers(interrupted)) == 12
    assert leftovers(interrupted) == []
    assert not list(interrupted.glob("building*"))


def test_an_interrupt_within_a_query_is_an_interrupt(source: Path, graph: Path) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def ask_at_length() -> None:
        with writer(graph, FolderSource(source)) as run:
            timer.start()
            run.connection.execute(
                "select count(*) from range(10000000) a, range(99) b where a.range % 7 = b.range % 5"
            )

    with pytest.raises(KeyboardInterrupt):
        ask_at_length()
    timer.join()
    index(source, graph)


def test_reading_a_model_stops_when_it_is_told_to(source: Path) -> None:
    stop = threading.Event()
    stop.set()
    ref = next(ref for ref in FolderSource(source).models() if isinstance(ref, ModelRef))
    with pytest.raises(SkipError, match="good/child-0: reading was stopped"):
        sketch_model(FolderSource(source), ref, budget=0, stop=stop)


def test_models_of_a_deleted_shard_are_read_again(source: Path, graph: Path) -> None:
    """What the message about a damaged shard asks for."""
    before = answers(graph)
    for shard in graph.glob("sketches/*/*.parquet"):
        shard.unlink()
    report = index(source, graph)
    assert (report.changed, report.unchanged) == (2, 0)
    assert answers(graph) == before
