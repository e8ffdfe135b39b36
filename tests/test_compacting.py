"""A generation that is mostly free is copied without what is free; otherwise, and where that fails, as it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from crawl.folder import FolderSource
from indexer.update import update
from store.compacting import copy_database
from store.generation import GraphFolder, open_reader
from store.progress import SilentProgress
from tests.runs import answers, index, leftovers, writer
from tests.test_migrations import schema_of
from tests.weights import family


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    family(tmp_path / "source", "good", 2)
    index(tmp_path / "source", tmp_path / "graph")
    return tmp_path / "graph"


def bloat(database: Path) -> None:
    """Fill a database, and free most of it: a table written between stays at the end of the file."""
    with duckdb.connect(str(database)) as c:
        c.execute("create table filling as select hash(i) as h, md5(i::varchar) as m from range(3_000_000) t(i)")
        c.execute("checkpoint")
        c.execute("create table last as select hash(i) as h from range(1000) t(i)")
        c.execute("checkpoint")
        c.execute("drop table filling")
        c.execute("checkpoint")


def contents(database: Path) -> list[object]:
    with duckdb.connect(str(database), read_only=True) as c:
        tables = [row[0] for row in c.execute("select table_name from duckdb_tables() order by 1").fetchall()]
        return [(table, c.execute(f"from {table} order by all").fetchall()) for table in tables]


def test_what_is_free_is_left_behind(graph: Path, tmp_path: Path) -> None:
    database = GraphFolder(graph).database(1)
    bloat(database)
    target = tmp_path / "copy"
    copy_database(database, target, tmp_path / "spill")
    assert target.stat().st_size < database.stat().st_size / 4
    assert contents(target) == contents(database)
    with duckdb.connect(str(target), read_only=True) as new, duckdb.connect(str(database), read_only=True) as old:
        # DuckDB renders a view that it has copied otherwise.
        new_schema, old_schema = schema_of(new), schema_of(old)
        assert [new_schema[i] for i in (0, 1, 2, 3, 5)] == [old_schema[i] for i in (0, 1, 2, 3, 5)]
        assert [row[::2] for row in new_schema[4]] == [row[::2] for row in old_schema[4]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "graph", "source"]


def test_a_graph_that_was_mostly_free_goes_on(graph: Path, tmp_path: Path) -> None:
    database = GraphFolder(graph).database(1)
    bloat(database)
    family(tmp_path / "source", "more", 1)
    index(tmp_path / "source", graph)
    assert GraphFolder(graph).database(2).stat().st_size < database.stat().st_size / 4
    index(tmp_path / "source", tmp_path / "afresh")
    assert answers(graph) == answers(tmp_path / "afresh")
    assert leftovers(graph) == []
    with open_reader(graph) as connection:
        assert connection.sql("select count(*) from lineage").fetchall() != [(0,)]


def test_a_damaged_one_is_copied_as_it_is(graph: Path, tmp_path: Path) -> None:
    database = GraphFolder(graph).database(1)
    bloat(database)
    with database.open("r+b") as file:
        file.seek(3 << 18)
        file.write(b"damage" * 1000)
    copy_database(database, tmp_path / "copy", tmp_path / "spill")
    assert (tmp_path / "copy").stat().st_size < database.stat().st_size or (
        tmp_path / "copy"
    ).read_bytes() == database.read_bytes()


def test_what_no_database_is_is_copied_too(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"no database" * 1000)
    copy_database(tmp_path / "source", tmp_path / "copy", tmp_path / "spill")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_small_one_is_copied_as_it_is(graph: Path, tmp_path: Path) -> None:
    with writer(graph, FolderSource(tmp_path / "source")) as run:
        update(run, mode="default", progress=SilentProgress())
        run.publish()
    database = GraphFolder(graph).database(2)
    copy_database(database, tmp_path / "copy", tmp_path / "spill")
    assert (tmp_path / "copy").read_bytes() == database.read_bytes()
