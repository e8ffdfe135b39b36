"""Answers about one model are look-ups by key, and need nothing else of the graph."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import modelkin.line
from modelkin import ModelGraph
from store.errors import StopError
from tests.small_graph import build, writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(tmp_path / "g")


class Watched:
    """A connection that tells of each SELECT how DuckDB reads its tables."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    def execute(self, query: str, values: object = None) -> duckdb.DuckDBPyConnection:
        plan = self.connection.execute(f"explain analyze {query}", values).fetchall()
        self.plans.append(plan[0][1])
        return self.connection.execute(query, values)


def test_no_table_of_models_is_read_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelGraph.open(path) as graph:
        assert [row.model for row in graph.ancestors("org/child")] == ["org/base"]
        # The number of sources is known now, and what org/base is called.
        watched = Watched(graph._connection)
        with monkeypatch.context() as patched:
            patched.setattr(graph, "_connection", watched)
            patched.setattr(graph._lines, "_connection", watched)
            graph.ancestors("lab/grand")
    assert len(watched.plans) == 4
    for plan in watched.plans:
        assert "Index Scan" in plan
        assert "Sequential Scan" not in plan


def test_sources_are_counted_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def count(connection: duckdb.DuckDBPyConnection) -> bool:
        counted.append(connection)
        return False

    monkeypatch.setattr(modelkin.line, "several_sources", count)
    with ModelGraph.open(path) as graph:
        for _ in range(3):
            graph.ancestors("lab/grand")
    assert len(counted) == 1


def test_a_damaged_shard_stands_in_the_way_of_sql_alone(path: Path) -> None:
    for shard in path.glob("sketches/*/*.parquet"):
        shard.write_bytes(b"no shard")
    with ModelGraph.open(path) as graph:
        assert len(graph.ancestors("lab/grand")) == 2
        assert [row.model for row in graph.descendants("org/child")] == ["lab/grand"]
        for _ in range(2):
            with pytest.raises(StopError, match=r"its sketches cannot be read .*`modelkin repair` mends the graph"):
                graph.sql("select 1")


def test_rows_of_earlier_revisions_are_not_meant(path: Path) -> None:
    build(path)
    with ModelGraph.open(path) as graph:
        assert graph.sql("select count(*) from models").fetchall() == [(10,)]
        assert [row.model for row in graph.ancestors("lab/grand")] == ["org/child", "org/base"]
        assert [row.model for row in graph.descendants("org/base")] == ["org/child", "org/child2", "lab/grand"]


def test_names_are_told_apart_among_live_models_only(path: Path) -> None:
    build(path, {"org/base": None, "org/other": "org/base"}, source="folder:/b")
    with ModelGraph.open(path) as graph:
        assert [row.model for row in graph.ancestors("lab/grand")] == ["org/child", "folder:/models/org/base"]
    with writer(path, "folder:/b") as run:
        run.remove(["org/base", "org/other"])
        run.publish()
    with ModelGraph.open(path) as graph:
        assert [row.model for row in graph.ancestors("lab/grand")] == ["org/child", "org/base"]
