"""What changed between two runs, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelkin.changes import Hung, Known, reasons
from modelkin.graph import ModelGraph
from store.errors import StopError
from tests.calling import call, rows
from tests.grown import grow, start
from tests.runs import index
from tests.small_graph import build, model, place, writer
from tests.weights import save

A, A2, CARD, READ = Known("a", (), True), Known("a2", (), True), Known("a", ("x",), True), Known("a", (), False)


def hung(parent: str, before: Known | None = A, after: Known | None = A, **more: object) -> Hung:
    told = {"relation": "finetune", "confidence": 0.9, "runner_up": None, "told": False, **more}
    return Hung(parent=parent, parent_before=before, parent_after=after, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "why"),
    [
        (None, hung("p"), None, A, ["model new"]),
        (hung("p"), None, A, None, ["model removed"]),
        (hung("p"), hung("q"), A, A2, ["model revised"]),
        (hung("p"), hung("q", before=None), A, A, ["parent arrived"]),
        (hung("p", after=None), hung("q"), A, A, ["parent removed"]),
        (hung("p", after=None), None, A, A, ["parent removed"]),
        (hung("p", after=None), hung("q", before=None), A, A2, ["model revised", "parent arrived", "parent removed"]),
        (hung("p", after=None), hung("inferred/1", before=None), A, A, ["parent inferred", "parent removed"]),
        (hung("inferred/1", after=None), hung("q", before=None), A, A, ["parent arrived", "parent no longer inferred"]),
        (hung("p", after=A2), hung("q"), A, A, ["parent revised"]),
        (None, hung("p"), READ, A, ["model placed (it was read, not compared)"]),
        (hung("p"), hung("q"), A, CARD, ["metadata changed"]),
        (hung("p"), hung("q", after=CARD), A, A, ["metadata changed"]),
        (hung("p"), hung("q", told=True), A, A, ["metadata changed"]),
        (hung("p"), None, A, A, ["evidence changed: a root now"]),
        (None, hung("p", confidence=0.61), A, A, ["evidence changed: confidence 0.61"]),
        (
            hung("p", runner_up="q", confidence=0.5),
            hung("q"),
            A,
            A,
            ["evidence changed: confidence 0.5 -> 0.9, the runner-up took over"],
        ),
        (hung("p"), hung("p", runner_up="r"), A, A, ["evidence changed: confidence 0.9 -> 0.9, runner-up none -> r"]),
    ],
)
def test_reasons(old: Hung | None, new: Hung | None, before: Known | None, after: Known | None, why: list[str]) -> None:
    assert reasons(old, new, before, after) == why


def test_reasons_of_inferred_ancestors_and_modes() -> None:
    assert reasons(None, hung("p"), None, A, inferred=True) == ["ancestor inferred"]
    assert reasons(hung("p"), None, A, None, inferred=True) == ["ancestor no longer inferred"]
    assert reasons(hung("p"), hung("q"), A, A, mode="paper") == ["mode changed to paper"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base ── child ── grand: run 1 without child, run 2 whole, run 3 without base, and other revised."""
    place = tmp_path_factory.mktemp("changes")
    base = start(1, layers=3, width=40)
    child = grow(base, 2)
    for name, weights in {"base": base, "grand": grow(child, 3), "other": grow(base, 4)}.items():
        save(place / "source" / name, weights)
    index(place / "source", place / "graph")
    save(place / "source" / "child", child)
    index(place / "source", place / "graph")
    shutil.rmtree(place / "source" / "base")
    save(place / "source" / "other", start(9, layers=3, width=40))
    index(place / "source", place / "graph")
    return place / "graph"


def test_between_runs(graph: Path) -> None:
    with ModelGraph.open(graph) as opened:

        def told(before: int, after: int) -> list[tuple[str, str, str | None, str | None, str]]:
            found = opened.diff(before, after)
            return [(each.child, each.change, each.parent_before, each.parent_after, each.why) for each in found]

        assert told(1, 2) == [
            ("child", "appeared", None, "base", "model new"),
            ("grand", "parent", "base", "child", "parent arrived"),
        ]
        assert told(2, 3) == [
            ("child", "vanished", "base", None, "parent removed"),
            ("other", "vanished", "base", None, "model revised; parent removed"),
        ]
        assert [each[0] for each in told(1, 3)] == ["grand", "other"]
        assert told(2, 2) == []
        with pytest.raises(StopError, match="run 2 is later than run 1: give the earlier one first"):
            opened.diff(2, 1)
        with pytest.raises(StopError, match="no run 4"):
            opened.diff(1, 4)
        every = opened.diff(1, 2, every=True)
        assert {each.change for each in every} <= {"appeared", "parent", "evidence"}
        assert len(every) >= 2
    with ModelGraph.open(graph, as_of=2) as opened:
        assert len(opened.diff(1, 2)) == 2
        with pytest.raises(StopError, match="no run 3"):
            opened.diff(1, 3)


def test_the_difference_turns_one_set_of_edges_into_the_other(graph: Path) -> None:
    for before, after in ((1, 2), (2, 3), (1, 3)):
        with ModelGraph.open(graph, as_of=before) as old, ModelGraph.open(graph, as_of=after) as new:
            edges: set[tuple[str, str | None, str | None]]
            edges = {(each.child, each.parent, each.relation) for each in old.edges()}
            found = new.diff(before, after)
            edges -= {(each.child, each.parent_before, each.relation_before) for each in found}
            edges |= {(each.child, each.parent_after, each.relation_after) for each in found if each.parent_after}
            assert edges == {(each.child, each.parent, each.relation) for each in new.edges()}


def test_the_command(graph: Path) -> None:
    result = call("diff", "1", "2", graph=graph)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split("  ")[0] == "change"
    assert "parent arrived" in result.stdout
    assert [(row["child"], row["why"]) for row in rows("diff", "1", "2", graph=graph)] == [
        ("child", "model new"),
        ("grand", "parent arrived"),
    ]
    same = call("diff", "3", "2999-01-01", graph=graph)
    assert (same.exit_code, same.stdout) == (1, "")
    assert "yet to come" in same.stderr
    assert "no edge changed between 3 and 3" in call("diff", "3", "3", graph=graph).stderr


def test_a_name_in_two_sources_is_two_models(tmp_path: Path) -> None:
    path = build(tmp_path / "g", {"a": None, "b": "a"})
    build(path, {"a": None, "b": "a"}, source="folder:/more")
    with ModelGraph.open(path) as opened:
        ((child, parent, why),) = [(each.child, each.parent_after, each.why) for each in opened.diff(1, 2)]
        assert (child, parent, why) == ("folder:/more/b", "folder:/more/a", "model new")


def test_a_model_that_a_crawl_found_gone_keeps_its_edge_until_the_update(tmp_path: Path) -> None:
    path = build(tmp_path / "g", {"a": None, "b": "a"})
    with writer(path) as run:
        run.remove(["b"])
        run.add([model("c")], (), {"a" * 16: (("layers.0.weight", (2,), 2, "weight"),)})
        run.publish()
    with writer(path) as run:
        place(run, "folder:/models", {"a": None, "c": "a"})
        run.connection.execute("update edges set valid_to_run = 3 where valid_from_run = 1")
        run.publish()
    with ModelGraph.open(path) as opened:
        assert opened.diff(1, 2) == ()
        assert {(each.child, each.why) for each in opened.diff(2, 3)} == {
            ("b", "model removed"),
            ("c", "model placed (it was read, not compared)"),
        }
