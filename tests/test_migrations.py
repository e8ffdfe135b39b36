"""A graph of the first schema: read as it is, brought up to date by a run, and then equal to a rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from indexer.update import update
from modelkin.graph import ModelGraph
from store import opening
from store.errors import StopError
from store.format import SCHEMA_VERSION
from store.generation import GraphFolder, open_reader
from store.migrations import FIRST_VERSION, migrate
from store.progress import SilentProgress
from store.schema import create_schema
from tests.calling import call
from tests.old_graph import NAMES, OldModels, nearly, unpack
from tests.runs import Placed, answers, change_setting, index, inferred, leftovers, writer

OLD = {
    "a/base": None,
    "a/child": "a/base",
    "a/grand": "a/merge",
    "a/merge": "a/base",
    "a/other": "a/base",
    "lone": None,
}
"""Parents as the first version found them: it knew no merges."""


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, OldModels]:
    return unpack(tmp_path)


def schema_of(connection: duckdb.DuckDBPyConnection) -> list[list[tuple[Any, ...]]]:
    """Everything that defines a database: columns, constraints, indexes, views, macros, comments."""
    queries = (
        "select table_name, column_index, column_name, data_type, is_nullable, column_default, comment "
        "from duckdb_columns() where not internal order by all",
        "select table_name, comment from duckdb_tables() order by all",
        "select table_name, constraint_type, constraint_column_names from duckdb_constraints() order by all",
        "select table_name, index_name, expressions from duckdb_indexes() order by all",
        "select view_name, sql, comment from duckdb_views() where not internal and view_name <> 'sketches' "
        "order by all",
        "select function_name, function_type, parameters, macro_definition from duckdb_functions() "
        "where not internal order by all",
    )
    return [connection.execute(query).fetchall() for query in queries]


def test_the_fixture_is_of_the_first_schema(old: tuple[Path, OldModels]) -> None:
    with duckdb.connect(str(GraphFolder(old[0]).database(2)), read_only=True) as connection:
        assert connection.sql("select value from settings where key = 'schema_version'").fetchall() == [("1",)]
        tables = {row[0] for row in connection.sql("select table_name from duckdb_tables()").fetchall()}
    assert not tables & {"merges", "inferred", "placements"}


def test_migrated_and_new_databases_have_one_schema(old: tuple[Path, OldModels], tmp_path: Path) -> None:
    with duckdb.connect(str(GraphFolder(old[0]).database(2))) as migrated, duckdb.connect() as new:
        migrate(migrated, FIRST_VERSION)
        create_schema(new)
        assert schema_of(migrated) == schema_of(new)
        assert migrated.sql("select value from settings where key = 'schema_version'").fetchall() == [
            (str(SCHEMA_VERSION),)
        ]


def _place(found: Placed) -> tuple[object, ...]:
    return found.parent, found.relation, found.distance, found.stage, found.path, found.members, found.merged


def test_a_graph_of_the_schema_before_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    graph, source = unpack(tmp_path, 3)
    database = GraphFolder(graph).database(2)
    before = database.read_bytes()
    keys = "select constraint_column_names from duckdb_constraints() where table_name = 'pairs' and constraint_type = "
    with duckdb.connect(str(database), read_only=True) as old:
        assert old.sql("select value from settings where key = 'schema_version'").fetchall() == [("3",)]
        assert old.sql(keys + "'PRIMARY KEY'").fetchall() == [(["model_a", "model_b"],)]
        pairs = old.sql("from pairs order by all").fetchall()
    index(source, tmp_path / "afresh")
    # Until the next run confidences are those of the solver that wrote it.
    assert {name: _place(found) for name, found in answers(graph).items()} == {
        name: _place(found) for name, found in nearly(answers(tmp_path / "afresh")).items()
    }
    with ModelGraph.open(graph) as opened:
        assert opened.explain("a/child").measured is not None
    assert database.read_bytes() == before
    with duckdb.connect(str(database)) as migrated, duckdb.connect() as new:
        migrate(migrated, 3)
        create_schema(new)
        assert schema_of(migrated) == schema_of(new)
        assert migrated.sql("from pairs order by all").fetchall() == pairs != []
    database.write_bytes(before)
    report = index(source, graph)
    assert (report.new, report.changed, report.unchanged) == (0, 0, len(NAMES))
    assert answers(graph) == nearly(answers(tmp_path / "afresh"))
    with open_reader(graph) as connection:
        assert connection.sql(keys + "'PRIMARY KEY'").fetchall() == []
        # Measured anew, on another machine perhaps than those of the archive.
        assert connection.sql("from pairs order by all").fetchall() == nearly(pairs)


def test_an_old_graph_is_read_without_being_touched(old: tuple[Path, OldModels]) -> None:
    graph, _ = old
    database = GraphFolder(graph).database(2)
    before = database.read_bytes()
    assert {name: found.parent for name, found in answers(graph).items()} == OLD
    with ModelGraph.open(graph) as opened:
        assert opened.generation == 2
        assert [each.model for each in opened.ancestors("a/grand")] == ["a/merge", "a/base"]
        assert opened.parents("a/merge")[0].coefficient is None
        assert {each.stage for each in opened.models()} == {None}
        assert opened.sql("select count(distinct model_id) from sketches").fetchall() == [(6,)]
        assert {each.why for each in opened.diff(1, 2)} == {"model new", "model removed", "parent arrived"}
    assert call("tree", "a/child", graph=graph).exit_code == 0
    assert database.read_bytes() == before
    assert leftovers(graph) == []


def test_an_old_graph_is_asked_as_of_its_runs(old: tuple[Path, OldModels]) -> None:
    with ModelGraph.open(old[0], as_of=1) as opened:
        assert {each.name: each.parent for each in opened.models()} == {
            **{"a/base": None, "a/child": "a/base", "a/gone": "a/base", "a/grand": "a/child", "lone": None}
        }
        assert opened.generation == 2


def test_a_run_brings_an_old_graph_up_to_date(old: tuple[Path, OldModels], tmp_path: Path) -> None:
    """From the old sketches alone: nothing is read again, and the answers are those of a graph made afresh."""
    graph, source = old
    database = GraphFolder(graph).database(2)
    before = database.read_bytes()
    report = index(source, graph)
    assert (report.new, report.changed, report.unchanged, report.bytes_read) == (0, 0, len(NAMES), 0)
    index(source, tmp_path / "afresh")
    assert answers(graph) == nearly(answers(tmp_path / "afresh"))
    assert inferred(graph) == inferred(tmp_path / "afresh")
    assert answers(graph)["a/merge"].merged == (("a/grand", 0.5, "linear"), ("a/other", 0.5, "linear"))
    assert database.read_bytes() == before, "the old generation stays as it was"
    with open_reader(graph) as connection, open_reader(tmp_path / "afresh") as new:
        # DuckDB renders views otherwise when they come from a file of an older format.
        assert schema_of(connection)[:4] == schema_of(new)[:4]
        macro = "select model, relation from ancestors_of('a/merge')"
        assert connection.sql(macro).fetchall() == new.sql(macro).fetchall() != []
        for view in ("lineage", "parents", "audit", "current_edges", "current_merges"):
            assert connection.sql(f"describe {view}").fetchall() == new.sql(f"describe {view}").fetchall()
        stages = "select name, stage from live_models join components using (model_id) order by all"
        assert connection.sql(stages).fetchall() == new.sql(stages).fetchall()
        held = connection.sql("select count(*) from placements where valid_to_run is null").fetchall()
        assert held == connection.sql("select count(*) from components").fetchall()
    with ModelGraph.open(graph, as_of=2) as opened:
        assert {each.name: each.parent for each in opened.models()} == OLD


def test_update_alone_brings_an_old_graph_up_to_date(old: tuple[Path, OldModels], tmp_path: Path) -> None:
    graph, source = old
    with writer(graph, source) as run:
        assert update(run, mode="default", progress=SilentProgress()).components_touched == 2
        run.publish()
    index(source, tmp_path / "afresh")
    assert answers(graph) == nearly(answers(tmp_path / "afresh"))


def test_a_killed_run_of_an_old_version_is_gone_on_with(old: tuple[Path, OldModels], tmp_path: Path) -> None:
    graph, source = old
    building = GraphFolder(graph).building
    building.write_bytes(GraphFolder(graph).database(2).read_bytes())
    change_setting(building, "base_generation", "2")
    with writer(graph, source) as run:
        assert run.resumed
        update(run, mode="default", progress=SilentProgress())
        run.publish()
    index(source, tmp_path / "afresh")
    assert answers(graph) == nearly(answers(tmp_path / "afresh"))
    assert leftovers(graph) == []


def test_a_step_that_fails_leaves_nothing(old: tuple[Path, OldModels]) -> None:
    with duckdb.connect(str(GraphFolder(old[0]).database(2))) as connection:
        before = schema_of(connection)
        # Stands in the way of the last step.
        connection.execute("create table placements (x integer)")
        with pytest.raises(duckdb.Error, match="placements"):
            migrate(connection, FIRST_VERSION)
        connection.execute("drop table placements")
        assert schema_of(connection) == before


def test_a_large_old_graph_wants_an_update(old: tuple[Path, OldModels], monkeypatch: pytest.MonkeyPatch) -> None:
    graph, source = old
    monkeypatch.setattr(opening, "MOST_IN_MEMORY", 1000)
    with pytest.raises(
        StopError, match=r"schema version 1, this modelkin reads \d+; `modelkin update --graph .*graph`"
    ):
        open_reader(graph)
    index(source, graph)
    assert set(answers(graph)) == NAMES


@pytest.mark.parametrize(
    ("version", "todo"),
    [
        ("999", r"written by a newer one \(modelkin 0\.1\.0\): install that"),
        ("0", "make the graph anew"),
        ("one", "make the graph anew"),
    ],
)
def test_a_schema_that_is_not_known_is_told(old: tuple[Path, OldModels], version: str, todo: str) -> None:
    graph, source = old
    change_setting(GraphFolder(graph).database(2), "schema_version", version)
    for use in (lambda: open_reader(graph), lambda: open_reader(graph, 1), lambda: index(source, graph)):
        with pytest.raises(StopError, match=rf"the graph has schema version {version}, this modelkin knows .*{todo}"):
            use()
    assert leftovers(graph) == []
