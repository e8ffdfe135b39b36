"""The Python client over small graphs made by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from datetime import UTC
from pathlib import Path

import duckdb
import pytest

from modelkin import ModelGraph, StopError, UnknownModelError
from modelkin.naming import AmbiguousModelError
from modelkin.nightly import RunReport
from modelkin.rows import Ancestor, Edge, RunRow, SkippedRow
from store.records import Skipped
from tests.small_graph import ENVIRONMENT, FAMILY, WHEN, build, writer


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelGraph]:
    claims = {"org/child": "org/base", "lab/grand": "org/base", "org/base": "org/child2", "org/alone": "org/base"}
    skipped = [Skipped("bad", None, "model.bin", "file", "pickle", "refused")]
    path = build(tmp_path_factory.mktemp("client") / "graph", claims=claims, skipped=skipped)
    with ModelGraph.open(path) as opened:
        yield opened


def test_no_graph_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StopError, match="modelkin index SOURCE"):
        ModelGraph.open(tmp_path)


def test_graph_as_a_container(graph: ModelGraph) -> None:
    assert len(graph) == 5
    assert list(graph) == sorted(FAMILY)
    assert "org/base" in graph
    assert "grand" in graph
    assert "nobody" not in graph
    assert 7 not in graph
    assert repr(graph) == f"<ModelGraph {graph.path}: 5 models, 1 tree, 1 without relatives, generation 1>"
    assert "&lt;ModelGraph" in graph._repr_html_()


def test_ancestors_come_parent_first(graph: ModelGraph) -> None:
    assert graph.ancestors("lab/grand") == (
        Ancestor(1, "org/child", "finetune", 0.01, 0.9),
        Ancestor(2, "org/base", "finetune", 0.01, 0.9),
    )
    assert graph.ancestors("org/base") == ()


def test_descendants_come_children_first(graph: ModelGraph) -> None:
    rows = graph.descendants("org/base")
    assert [(row.generation, row.parent, row.model) for row in rows] == [
        (1, "org/base", "org/child"),
        (1, "org/base", "org/child2"),
        (2, "org/child", "lab/grand"),
    ]
    assert graph.descendants("lab/grand") == ()


def test_siblings(graph: ModelGraph) -> None:
    assert [row.model for row in graph.siblings("org/child")] == ["org/child2"]
    assert graph.siblings("org/base") == graph.siblings("lab/grand") == ()


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_answers_equal_those_of_the_macros(graph: ModelGraph, name: str) -> None:
    for method, macro in (
        (graph.ancestors, "ancestors_of"),
        (graph.descendants, "descendants_of"),
        (graph.siblings, "siblings_of"),
    ):
        expected = graph.sql(f"from {macro}('{name}')")
        rows = method(name)
        assert [tuple(getattr(row, f.name) for f in fields(row)) for row in rows] == expected.fetchall()
        for row in rows[:1]:
            assert [f.name for f in fields(row)] == expected.columns


def test_tree_is_drawn_with_its_edges(graph: ModelGraph) -> None:
    tree = graph.tree("lab/grand")
    edge = "(finetune, distance 0.01, confidence 0.9)"
    assert str(tree).splitlines() == [
        "org/base  (4 models)",
        f"├── org/child  {edge}",
        f"│   └── lab/grand  {edge}  <-",
        f"└── org/child2  {edge}",
    ]
    assert (tree.root, tree.asked, len(tree)) == ("org/base", "lab/grand", 4)
    assert [(n.model, n.parent, n.depth, n.children, n.descendants) for n in tree.nodes] == [
        ("org/base", None, 0, 2, 3),
        ("org/child", "org/base", 1, 1, 1),
        ("lab/grand", "org/child", 2, 0, 0),
        ("org/child2", "org/base", 1, 0, 0),
    ]


def test_trees_come_largest_first(graph: ModelGraph) -> None:
    assert [(tree.root, len(tree)) for tree in graph.trees()] == [("org/base", 4), ("org/alone", 1)]


def test_explain_gives_all_evidence(graph: ModelGraph) -> None:
    found = graph.explain("org/child")
    assert (found.parent, found.root, found.depth, found.members) == ("org/base", "org/base", 1, 4)
    assert (found.runner_up, found.runner_up_confidence, found.since_run) == ("org/alone", 0.05, 1)
    assert [(e.cue, e.log_odds) for e in found.evidence] == [("kurtosis", 1.5)]
    assert found.measured is not None
    assert found.measured.rank == 8
    assert found.runner_up_measured is None
    assert [(c.claimed_parent, c.verdict) for c in found.claims] == [("org/base", "confirmed")]
    text = str(found)
    for expected in ("child of org/base", "kurtosis grows in 3 of 4 layers", "+1.50", "runner-up: org/alone"):
        assert expected in text


def test_explain_of_roots(graph: ModelGraph) -> None:
    base, alone = graph.explain("org/base"), graph.explain("org/alone")
    assert (base.parent, base.confidence) == (None, None)
    assert base.evidence == ()
    assert "root of a tree of 4 models" in str(base)
    assert "no relative is close enough" in str(alone)


def test_edges_models_runs_skipped_audit(graph: ModelGraph) -> None:
    assert graph.edges()[0] == Edge("org/base", "org/child", "finetune", 0.01, 0.9, "org/alone", 0.05, 1)
    assert len(graph.edges()) == 3
    grand = graph.models()[0]
    assert (grand.name, grand.parent, grand.root, grand.depth) == ("lab/grand", "org/child", "org/base", 2)
    assert grand.created_at == WHEN
    assert grand.modified_at is None
    (only,) = graph.runs()
    assert (only.run_id, only.status, only.models_new, only.started_at.tzinfo) == (1, "done", 5, UTC)
    assert [(row.name, row.reason) for row in graph.skipped()] == [("bad", "pickle")]
    assert {row.model: row.verdict for row in graph.audit()} == {
        "lab/grand": "confirmed, not direct",
        "org/alone": "unrelated",
        "org/base": "reversed",
        "org/child": "confirmed",
    }


@pytest.mark.parametrize(("kind", "table"), [(RunRow, "runs"), (SkippedRow, "skipped")])
def test_rows_of_tables_have_their_columns(graph: ModelGraph, kind: type, table: str) -> None:
    assert [f.name for f in fields(kind)] == graph.sql(f"from {table}").columns


def test_report_has_the_columns_of_runs(graph: ModelGraph) -> None:
    counted = {c for c in graph.sql("from runs").columns if c.startswith(("models_", "bytes_", "edges_"))}
    assert counted <= {f.name for f in fields(RunReport)}


def test_rows_are_frozen_and_read_well(graph: ModelGraph) -> None:
    rows = graph.ancestors("lab/grand")
    with pytest.raises(FrozenInstanceError):
        rows[0].model = "other"  # type: ignore[misc]
    assert repr(rows).splitlines()[0].split() == ["generation", "model", "relation", "distance", "confidence"]
    assert repr(graph.ancestors("org/base")) == "(no rows)"
    assert rows.to_dicts()[0]["model"] == "org/child"


def test_unknown_names_bring_close_ones(graph: ModelGraph) -> None:
    with pytest.raises(UnknownModelError, match="did you mean org/child") as caught:
        graph.ancestors("org/chlid")
    assert caught.value.close[:2] == ("org/child", "org/child2")
    with pytest.raises(UnknownModelError, match="lab/grand"):
        graph.tree("gramd")
    with pytest.raises(UnknownModelError, match="modelkin models"):
        graph.tree("zzzzzzzzzzzz")
    with pytest.raises(UnknownModelError, match=r"no model \\x1b\[31m"):
        graph.tree("\x1b[31m")


def test_last_part_of_a_name_is_enough(graph: ModelGraph) -> None:
    assert graph.tree("grand").asked == "lab/grand"
    assert graph.explain("alone").model == "org/alone"


def test_one_name_in_two_sources(tmp_path: Path) -> None:
    build(tmp_path / "g", {"org/base": None, "org/child": "org/base"}, source="folder:/a")
    build(tmp_path / "g", {"org/base": None, "org/other": "org/base"}, source="folder:/b")
    with ModelGraph.open(tmp_path / "g") as graph:
        with pytest.raises(AmbiguousModelError, match="folder:/a/org/base") as caught:
            graph.descendants("org/base")
        assert caught.value.candidates == ("folder:/a/org/base", "folder:/b/org/base")
        assert [row.model for row in graph.descendants("folder:/b/org/base")] == ["org/other"]
        assert [row.model for row in graph.ancestors("org/child")] == ["folder:/a/org/base"]
        assert {edge.parent for edge in graph.edges()} == {"folder:/a/org/base", "folder:/b/org/base"}
        assert len(graph.to_networkx()) == 4
        assert [tree.root for tree in graph.trees()] == ["folder:/a/org/base", "folder:/b/org/base"]
        with pytest.raises(AmbiguousModelError):
            graph.tree("base")
        assert "base" not in graph


def test_models_that_were_not_placed_yet(tmp_path: Path) -> None:
    with ModelGraph.open(build(tmp_path / "g", placed=False)) as graph:
        assert len(graph) == 5
        with pytest.raises(StopError, match="modelkin update"):
            graph.ancestors("lab/grand")
        assert graph.models()[0].root is None
        assert list(graph.trees()) == []


def test_sql_gives_a_relation(graph: ModelGraph) -> None:
    relation = graph.sql("select model, depth from lineage order by model")
    assert list(relation.df()["model"]) == sorted(FAMILY)
    assert relation.arrow().read_all().column("depth").to_pylist() == [2, 0, 0, 1, 1]
    assert graph.sql("select count(*) from sketches").fetchall() == [(5,)]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("select 1; select 2", "one SQL statement, found 2"),
        ("", "one SQL statement, found 0"),
        ("selec 1", "syntax error"),
        ("select nothing from models", "nothing"),
        ("delete from models", "read-only"),
        ("create table t as select 1", "read-only"),
    ],
)
def test_sql_errors_are_clear(graph: ModelGraph, query: str, says: str) -> None:
    with pytest.raises(StopError, match=says):
        graph.sql(query)


def test_an_open_result_of_sql_stands_in_no_way(graph: ModelGraph) -> None:
    reader = graph.sql("select name from models order by name").arrow()
    assert len(graph.ancestors("lab/grand")) == 2
    assert reader.read_all().num_rows == 5


def test_to_networkx(graph: ModelGraph) -> None:
    found = graph.to_networkx()
    assert set(found) == set(FAMILY)
    assert set(found.edges) == {(parent, child) for child, parent in FAMILY.items() if parent}
    assert found.edges["org/base", "org/child"]["confidence"] == 0.9
    assert found.nodes["org/base"]["dtype"] == "F32"


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    path = build(tmp_path / "g", {"a": None})
    with ModelGraph.open(path) as before:
        build(path, {"b": None})
        assert list(before) == ["a"]
        with ModelGraph.open(path) as after:
            assert list(after) == ["a", "b"]
            assert (before.generation, after.generation) == (1, 2)


def test_closed_graphs_say_so(tmp_path: Path) -> None:
    graph = ModelGraph.open(build(tmp_path / "g"))
    graph.close()
    assert repr(graph).endswith("closed>")
    with pytest.raises(duckdb.Error):
        len(graph)


def test_answers_do_not_cut_each_other_off(graph: ModelGraph) -> None:
    assert [(edge.child, len(graph.ancestors(edge.child))) for edge in graph.each_edge()] == [
        ("org/child", 1),
        ("org/child2", 1),
        ("lab/grand", 2),
    ]


def test_reading_while_another_process_writes(tmp_path: Path) -> None:
    path = build(tmp_path / "g")
    script = (
        "import sys; from pathlib import Path; from tests.small_graph import model, writer\n"
        f"with writer(Path({str(path)!r})) as run:\n"
        "    run.finish_run(models_seen=1); print('writing', flush=True); sys.stdin.readline(); run.publish()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with ModelGraph.open(path) as graph:
            assert len(graph.descendants("org/base")) == 3
        with pytest.raises(StopError, match=f"process {process.pid} is writing"), writer(path):
            pass
        process.communicate("\n")
        assert process.returncode == 0
    with ModelGraph.open(path) as graph:
        assert graph.generation == 2
