"""Generations: who reads keeps what was opened, one process writes at a time, and CURRENT leads to a whole graph."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crawl.folder import FolderSource
from crawl.ingest import ingest
from indexer.update import update
from store.errors import StopError
from store.generation import GraphFolder, open_reader
from store.progress import SilentProgress
from tests.runs import answers, change_setting, index, leftovers, writer
from tests.weights import family, root, save

ROOT = Path(__file__).parent.parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    family(tmp_path / "source", "good", 1)
    return tmp_path / "source"


@pytest.fixture
def graph(tmp_path: Path, source: Path) -> Path:
    """Generation 1, of two models."""
    index(source, tmp_path / "graph")
    return tmp_path / "graph"


@contextmanager
def python(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process, which talks in lines."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def ask(process: subprocess.Popen[str], line: str) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


# Opens the graph when told "open", and answers each line with how many models and models with sketches it sees.
READER = """
import json, sys
from store.generation import open_reader
for line in sys.stdin:
    if line == "open\\n":
        graph = open_reader(sys.argv[1])
    queries = ("select count(*) from live_models", "select count(distinct model_id) from sketches")
    print(json.dumps([graph.execute(query).fetchone()[0] for query in queries]), flush=True)
"""


def test_a_reader_in_another_process_keeps_its_generation(source: Path, graph: Path) -> None:
    with python(READER, graph) as reader, python(READER, graph) as late:
        assert ask(reader, "open") == [2, 2]
        family(source, "more", 2)
        with writer(graph, FolderSource(source)) as run:
            ingest(FolderSource(source), run, budget=0, complete=True, progress=SilentProgress())
            assert ask(reader, "again") == [2, 2]
            assert ask(late, "open") == [2, 2]
            update(run, mode="default", progress=SilentProgress())
            assert ask(reader, "again") == [2, 2]
            run.publish()
            assert ask(reader, "again") == [2, 2]
            assert ask(late, "open") == [4, 4]
        for _ in range(2):
            index(source, graph)
        assert not GraphFolder(graph).database(1).exists()
        assert ask(reader, "the file is gone, and still") == [2, 2]
        assert ask(reader, "open") == [4, 4]


# Opens the graph over and over until told to stop; answers with how often it did, and what it saw.
EAGER = """
import json, sys, threading
from store.generation import open_reader
stop, opened, seen = threading.Event(), 0, []
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
print("0", flush=True)
while opened == 0 or not stop.is_set():
    with open_reader(sys.argv[1]) as graph:
        (count,) = graph.execute("select count(*) from components").fetchone()
    seen += [count] if count not in seen else []
    opened += 1
print(json.dumps([opened, seen]), flush=True)
"""


def test_current_never_leads_to_half_a_graph(source: Path, graph: Path) -> None:
    with python(EAGER, graph) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "0\n"
        for at in range(4):
            family(source, f"more-{at}", at + 2)
            index(source, graph)
        opened, seen = ask(reader, "stop")
    assert opened > 1
    assert seen == sorted(seen)
    assert set(seen) <= {2, 4, 6, 8, 10}


LOCKER = """
import sys
from store.generation import GraphFolder
with GraphFolder(sys.argv[1]).lock():
    print("1", flush=True)
    sys.stdin.readline()
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(source: Path, graph: Path) -> None:
    with python(LOCKER, graph) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        with pytest.raises(StopError, match=rf"process {other.pid} is writing to this graph; wait until it is done"):
            index(source, graph)
        assert len(answers(graph)) == 2
        other.send_signal(signal.SIGKILL)
        other.wait()
        index(source, graph)
    with GraphFolder(graph).lock(), pytest.raises(StopError, match=f"process {os.getpid()} is writing"):
        index(source, graph)


@pytest.mark.parametrize("text", ["", "\n", "graph-2.duckdb", "../graph-000001.duckdb", "graph-000001.duckdb2", "\xff"])
def test_a_damaged_pointer_is_told(source: Path, graph: Path, text: str) -> None:
    (graph / "CURRENT").write_text(text, encoding="latin-1")
    for use in (lambda: open_reader(graph), lambda: index(source, graph)):
        with pytest.raises(StopError, match=r"CURRENT: expected the name of a generation .*write the name of"):
            use()
    (graph / "CURRENT").write_text("graph-000001.duckdb\n")
    assert len(answers(graph)) == 2


def test_a_pointer_that_is_lost_or_leads_nowhere_is_told(source: Path, graph: Path) -> None:
    index(source, graph)
    (graph / "CURRENT").unlink()
    for use in (lambda: open_reader(graph), lambda: index(source, graph)):
        with pytest.raises(StopError, match=r"CURRENT: expected the name of a generation .*found nothing"):
            use()
    (graph / "CURRENT").write_text("graph-000007.duckdb\n")
    with pytest.raises(StopError, match="generation 7 cannot be opened"):
        open_reader(graph)
    with pytest.raises(StopError, match=r"found graph-000007.duckdb, which is not there"):
        index(source, graph)
    assert len(list(graph.glob("sketches/*/*"))) == 1, "sketches are kept for whoever mends it"


def test_a_damaged_generation_is_told(source: Path, graph: Path) -> None:
    for content in (b"", b"no database", os.urandom(5000)):
        GraphFolder(graph).database(1).write_bytes(content)
        with pytest.raises(StopError, match=f"{graph}: "):
            open_reader(graph)
        with pytest.raises(StopError, match=f"{graph}: "):
            index(source, graph)


def test_a_graph_of_a_newer_modelkin_is_left_alone(source: Path, graph: Path) -> None:
    database = GraphFolder(graph).database(1)
    change_setting(database, "schema_version", "999")
    before = database.read_bytes()
    for use in (lambda: open_reader(graph), lambda: index(source, graph)):
        with pytest.raises(StopError, match="the graph has schema version 999, this modelkin knows"):
            use()
    assert database.read_bytes() == before
    assert leftovers(graph) == []


def test_one_generation_before_the_current_is_kept(source: Path, graph: Path) -> None:
    for _ in range(3):
        index(source, graph)
    assert sorted(path.name for path in graph.glob("graph-*")) == ["graph-000003.duckdb", "graph-000004.duckdb"]
    (graph / "CURRENT").write_text("graph-000003.duckdb\n")
    assert len(answers(graph)) == 2
    index(source, graph)
    assert GraphFolder(graph).current() == 4


def test_shards_that_nothing_refers_to_are_removed(source: Path, graph: Path) -> None:
    (shard,) = graph.glob("sketches/*/*")
    for orphan in (shard.parent / "000009-x.parquet", shard.parent / f"{shard.name}.tmp"):
        shutil.copy(shard, orphan)
    shutil.copytree(shard.parent, graph / "sketches" / "arch=0123")
    (graph / "sketches" / "notes" / "mine").mkdir(parents=True)
    index(source, graph)
    assert [path for path in graph.glob("sketches/**/*") if path.is_file()] == [shard]
    assert len(answers(graph)) == 2


def test_what_is_renamed_is_on_disk_before(source: Path, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def noted_replace(old: Path, new: Path) -> None:
        done.append(f"{Path(old).name} -> {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save(source / "new", root(5, size=32))
    index(source, graph)
    arch = next(path.name for path in graph.glob("sketches/*") if len(list(path.glob("000002-*"))))
    shard = next(graph.glob("sketches/*/000002-*")).name
    plain = shard.replace("-" + shard[-40:-8], "")
    assert done == [
        *("fsync copy.tmp", "copy.tmp -> building.duckdb"),
        *("fsync sketches", f"fsync {plain}.tmp", f"{plain}.tmp -> {shard}", f"fsync {arch}"),
        # Search vectors are derived, and each record is checked when it is read.
        f"{arch.removeprefix('arch=')}.vectors.tmp -> {arch.removeprefix('arch=')}.vectors",
        *("fsync building.duckdb", "fsync CURRENT.tmp", "building.duckdb -> graph-000002.duckdb", "fsync graph"),
        *("CURRENT.tmp -> CURRENT", "fsync graph"),
    ]


def test_a_swap_that_was_killed_between_its_two_renames_is_finished(
    source: Path, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family(source, "more", 2)
    with monkeypatch.context() as killed:
        killed.setattr(GraphFolder, "_point", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index(source, graph)
    assert sorted(path.name for path in graph.glob("*.*")) == [
        *("CURRENT.tmp", "graph-000001.duckdb", "graph-000002.duckdb")
    ]
    assert len(answers(graph)) == 2
    report = index(source, graph)
    assert (report.new, report.unchanged) == (0, 4)
    assert GraphFolder(graph).current() == 3
    assert len(answers(graph)) == 4
    assert leftovers(graph) == []


def test_an_error_of_the_disk_is_told_with_what_to_do(source: Path, graph: Path) -> None:
    with (
        pytest.raises(StopError, match=r"writing failed \(\).*run the same command again"),
        writer(graph, FolderSource(source)),
    ):
        raise OSError
