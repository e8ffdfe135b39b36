"""The incremental law: whatever arrives or leaves, in whatever order and batches, the graph equals a rebuild."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawl.folder import FolderSource
from indexer.family import Family
from indexer.solve import split
from indexer.update import update
from modelkin.graph import ModelGraph
from store.generation import open_reader
from store.progress import SilentProgress
from tests.grown import grow, start
from tests.runs import answers, index, inferred, writer
from tests.weights import Weights, save


def _models() -> dict[str, Weights]:
    """Two families of one architecture, two of another, a copy and a stranger; without d/c0 the fourth has an ancestor
    that is missing."""
    models: dict[str, Weights] = {}
    for family, layers in (("a", 6), ("b", 6), ("c", 5)):
        root = start(ord(family), layers=layers, width=48)
        models[f"{family}/root"] = root
        for i in range(2):
            models[f"{family}/c{i}"] = grow(root, 10 * i + ord(family), 0.1)
            models[f"{family}/c{i}-g"] = grow(models[f"{family}/c{i}"], 7 * i + ord(family) + 500, 0.1)
    models["d/root"] = start(ord("d"), layers=2, width=40)
    for i in range(3):
        models[f"d/c{i}"] = grow(models["d/root"], 10 * i + 1, 0.1)
    for i in range(4):
        models[f"d/c0-g{i}"] = grow(models["d/c0"], 10 * i + 2, 0.1)
    models["a/z-copy"] = {name: w.copy() for name, w in models["a/c0"].items()}
    models["a/merge"] = {name: (w + models["a/c1-g"][name]) / 2 for name, w in models["a/c0"].items()}
    models["stranger"] = start(999, layers=6, width=48)
    return models


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    for name, weights in _models().items():
        save(folder / name, weights)
    return folder


NAMES = sorted(_models())
present = st.lists(st.sets(st.sampled_from(NAMES), min_size=0, max_size=len(NAMES)), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("dense", "at_once", "listed"),
    [(320, 8_192, 32), (4, 8_192, 32), (4, 8_192, 3), (320, 3, 32), (3, 3, 32), (3, 3, 3)],
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(present)
def test_any_history_equals_a_rebuild(
    dense: int,
    at_once: int,
    listed: int,
    everything: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[set[str]],
) -> None:
    """Models come and go between runs; after each run the graph is what a graph made afresh would be.

    Of small components, and where all count as large, also with lists so short that some are kept; and where the grown
    graph's are read few models at a time, and if they are large by row.
    """
    monkeypatch.setattr("indexer.solve.DENSE", dense)
    monkeypatch.setattr("indexer.large_measured.LISTED", listed)
    monkeypatch.setattr("indexer.large.PARENTS", min(listed, 16))
    monkeypatch.setattr("indexer.vicinity.SPARE", 16 if listed == 32 else 1)
    place = tmp_path_factory.mktemp("history")
    source = place / "source"
    source.mkdir()
    for step, names in enumerate(steps):
        for name in NAMES:
            target = source / name
            if name in names and not target.exists():
                shutil.copytree(everything / name, target)
            elif name not in names and target.exists():
                shutil.rmtree(target)
        with monkeypatch.context() as few:
            few.setattr("indexer.update.how_many", lambda *_: at_once)
            index(source, place / "grown")
        index(source, place / f"afresh-{step}")
        assert answers(place / "grown") == answers(place / f"afresh-{step}")
        assert inferred(place / "grown") == inferred(place / f"afresh-{step}")
        assert set(answers(place / "grown")) == names


def test_an_inferred_ancestor_comes_and_goes(everything: Path, tmp_path: Path) -> None:
    """It is there while the model is not, remembers when it held, and leaves nothing behind."""
    source, graph = tmp_path / "source", tmp_path / "graph"
    shutil.copytree(everything, source)
    index(source, graph)
    whole = answers(graph)
    assert inferred(graph) == {}
    shutil.rmtree(source / "d" / "c0")
    index(source, graph)
    ((name, (parent, distance, confidence, path, children, _)),) = inferred(graph).items()
    assert (parent, path, children) == ("d/root", ("d/root", name), 4)
    assert distance == pytest.approx(whole["d/c0"].distance, rel=0.1)
    assert 0.5 < confidence < 1
    found = answers(graph)
    for i in range(4):
        assert found[f"d/c0-g{i}"].parent == name
        assert found[f"d/c0-g{i}"].path == ("d/root", name, f"d/c0-g{i}")
        assert found[f"d/c0-g{i}"].distance == pytest.approx(whole[f"d/c0-g{i}"].distance, rel=0.1)
    _check_answers(graph, name)
    index(source, graph, infer=False)
    assert inferred(graph) == {}
    assert not any((each.parent or "").startswith("inferred/") for each in answers(graph).values())
    index(source, graph)
    assert answers(graph) == found
    shutil.copytree(everything / "d" / "c0", source / "d" / "c0")
    index(source, graph)
    assert inferred(graph) == {}
    assert answers(graph) == whole
    with open_reader(graph) as connection:
        held = connection.sql("select valid_from_run, valid_to_run from inferred order by 1").fetchall()
        left = connection.sql("select count(*) from current_edges where parent_id < 0 or child_id < 0").fetchall()
    assert (held, left) == ([(2, 3), (4, 5)], [(0,)])


def _check_answers(graph: Path, name: str) -> None:
    """Everything that people and programs are told marks the inferred ancestor as such."""
    with ModelGraph.open(graph) as asked:
        drawn = [line for line in str(asked.tree("d/root")).splitlines() if name in line]
        assert len(drawn) == 1
        assert f"○ {name}  (inferred, " in drawn[0]
        (ancestor, _) = asked.ancestors("d/c0-g0")
        (parent,) = asked.parents("d/c0-g0")
        assert (ancestor.model, ancestor.inferred, parent.model, parent.inferred) == (name, True, name, True)
        edges = [edge for edge in asked.edges() if edge.inferred]
        assert sorted(edge.child for edge in edges) == [*(f"d/c0-g{i}" for i in range(4)), name]
        why = asked.explain("d/c0-g0")
        assert why.parent_inferred
        assert "no model in the graph lies between these 4 siblings" in str(why)
        assert asked.explain(name).inferred
        assert name not in {model.name for model in asked.models()}
        assert asked.to_networkx().nodes[name]["inferred"]


def test_only_what_is_touched_is_solved(everything: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(everything, source)
    shutil.rmtree(source / "b" / "c1-g")
    index(source, tmp_path / "graph")
    shutil.copytree(everything / "b" / "c1-g", source / "b" / "c1-g")
    run = writer(tmp_path / "graph", FolderSource(source))
    with run:
        from crawl.ingest import ingest

        report = ingest(FolderSource(source), run, budget=0, complete=True, progress=SilentProgress())
        counts = update(run, mode="default", progress=SilentProgress())
        run.publish()
    assert (report.new, report.unchanged) == (1, len(NAMES) - 1)
    assert counts.components_touched == 1
    with open_reader(tmp_path / "graph") as connection:
        assert connection.sql("select members, arrived, gone, reason from touched where run_id = 2").fetchall() == [
            (5, 1, 0, "arrived")
        ]
        touched = connection.sql(
            "select distinct m.name from edges e join models m on m.model_id = child_id where valid_from_run = 2"
        )
        assert all(name.startswith("b/") for (name,) in touched.fetchall())


def test_what_is_left_is_held_together_by_its_tree(
    everything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stored pairs join only those that are close, not all of what is left is compared: edges tell the rest."""
    source = tmp_path / "source"
    shutil.copytree(everything, source)
    with monkeypatch.context() as few:
        few.setattr("indexer.pairs.KEPT_PAIRS", 1)
        index(source, tmp_path / "graph")
    compared: list[int] = []

    def note(family: Family) -> list[Any]:
        compared.append(len(family))
        return split(family)

    monkeypatch.setattr("indexer.parts.split", note)
    # A leaf, a model with children, and a root.
    for gone in ("c/c1-g", "d/c0", "a/root"):
        shutil.rmtree(source / gone)
    index(source, tmp_path / "graph")
    index(source, tmp_path / "afresh")
    assert compared == []
    assert answers(tmp_path / "graph") == answers(tmp_path / "afresh")


def test_a_model_goes_while_the_search_vectors_are_lost(everything: Path, tmp_path: Path) -> None:
    """All components are looked at then; the one that lost a model has no member that another tree has."""
    source = tmp_path / "source"
    shutil.copytree(everything, source)
    index(source, tmp_path / "graph")
    shutil.rmtree(source / "d" / "c0")
    shutil.rmtree(tmp_path / "graph" / "shortlist")
    index(source, tmp_path / "graph")
    index(source, tmp_path / "afresh")
    assert answers(tmp_path / "graph") == answers(tmp_path / "afresh")


def test_a_run_without_news_changes_nothing(everything: Path, tmp_path: Path) -> None:
    index(everything, tmp_path / "graph")
    before = answers(tmp_path / "graph")
    report = index(everything, tmp_path / "graph")
    assert (report.new, report.changed, report.bytes_read) == (0, 0, 0)
    assert answers(tmp_path / "graph") == before
    with open_reader(tmp_path / "graph") as connection:
        assert connection.sql("select count(*) from edges where valid_from_run = 2").fetchall() == [(0,)]


def test_edges_remember_when_they_held(everything: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(everything, source)
    index(source, tmp_path / "graph")
    shutil.rmtree(source / "c" / "c0")
    index(source, tmp_path / "graph")
    with open_reader(tmp_path / "graph") as connection:
        rows = connection.sql(
            """select p.name, valid_from_run, valid_to_run from edges e
               join models c on c.model_id = child_id join models p on p.model_id = parent_id
               where c.name = 'c/c0-g' order by valid_from_run"""
        ).fetchall()
    assert rows == [("c/c0", 1, 2), ("c/root", 2, None)]


def test_merges_remember_when_they_held(everything: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(everything, source)
    index(source, tmp_path / "graph")
    shutil.rmtree(source / "a" / "c1-g")
    index(source, tmp_path / "graph")
    with open_reader(tmp_path / "graph") as connection:
        rows = connection.sql(
            """select c.name, p.name, valid_from_run, valid_to_run from merges
               join models c on c.model_id = child_id join models p on p.model_id = parent_id order by p.name"""
        ).fetchall()
    assert rows == [("a/merge", "a/c0", 1, 2), ("a/merge", "a/c1-g", 1, 2)]
    assert answers(tmp_path / "graph")["a/merge"].merged == ()


def test_switching_the_mode_solves_everything_again(everything: Path, tmp_path: Path) -> None:
    index(everything, tmp_path / "graph")
    before = answers(tmp_path / "graph")
    for mode in ("paper", "default"):
        with writer(tmp_path / "graph", FolderSource(everything)) as run:
            assert update(run, mode=mode, progress=SilentProgress()).components_touched > 0
            run.publish()
    assert answers(tmp_path / "graph") == before


def test_true_parents_come_out(everything: Path, tmp_path: Path) -> None:
    index(everything, tmp_path / "graph")
    found = answers(tmp_path / "graph")
    for family in "abc":
        for i in range(2):
            assert found[f"{family}/c{i}-g"].parent == f"{family}/c{i}"
    assert found["a/z-copy"].parent == "a/c0"
    assert found["a/z-copy"].relation == "copy"
    assert found["a/merge"].relation == "merge"
    assert found["a/merge"].merged == (("a/c0", 0.5, "linear"), ("a/c1-g", 0.5, "linear"))
    assert found["a/c0"].merged == ()
    assert found["stranger"].parent is None
    assert found["stranger"].path == ("stranger",)
