"""The benchmarks at scale run at a small one: their forest, their score, and what they say of the incremental law."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import finders, place, shapes
from benchmarks.mdst import make_graph
from benchmarks.scale.forest import KINDS, grow_forest
from benchmarks.scale.hub import SyntheticHub
from benchmarks.scale.kept import KeptFigures
from benchmarks.scale.score import agreement, recovered
from benchmarks.scale.shapes import SHAPES, shaped_forest
from benchmarks.scale.steps import ancestors_warm_ms, run_step
from indexer.mdst import minimum_directed_spanning_tree


def test_a_forest_is_the_same_each_time_and_parents_come_first() -> None:
    forest, again = grow_forest(3_000), grow_forest(3_000)
    for name in ("parent", "other", "kind", "family", "architecture", "step"):
        assert np.array_equal(getattr(forest, name), getattr(again, name))
    child = np.flatnonzero(forest.parent >= 0)
    assert (forest.parent[child] < child).all()
    assert np.array_equal(forest.family[forest.parent[child]], forest.family[child])
    assert np.bincount(forest.family)[0] == 300
    assert set(np.unique(forest.kind)) == set(range(len(KINDS)))
    # One root a family, and what is computed or copied or merged has no children.
    assert np.count_nonzero(forest.parent < 0) == len(np.unique(forest.family))
    assert (forest.kind[forest.parent[child]] < 3).all()


@pytest.mark.parametrize("shape", list(SHAPES))
def test_other_shapes_are_families_too(shape: str) -> None:
    forest, again = shaped_forest(shape, 60), shaped_forest(shape, 60)
    assert np.array_equal(forest.parent, again.parent)
    assert np.array_equal(forest.step, again.step)
    child = np.flatnonzero(forest.parent >= 0)
    assert (forest.parent[child] < child).all()
    assert np.array_equal(forest.family[forest.parent[child]], forest.family[child])
    assert np.count_nonzero(forest.parent < 0) == len(np.unique(forest.family))
    assert (forest.kind[forest.parent < 0] == 0).all()
    merges = forest.kind == KINDS.index("merge")
    assert ((forest.other >= 0) == merges).all()
    assert (forest.other[merges] != forest.parent[merges]).all()


def test_shapes_are_recovered_and_grow_as_they_are_rebuilt(capsys: pytest.CaptureFixture[str]) -> None:
    assert shapes.main(["--models", "20", "--seeds", "1", "--shapes", "star", "small"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)["shapes"]
    assert len(table) == 1 + len(told) == 3
    for row in told.values():
        assert row["edges_recovered"] == row["agreement_with_rebuild"] == 1.0


def test_weights_follow_from_the_seed_alone() -> None:
    one, two = SyntheticHub(300), SyntheticHub(300)
    for i in reversed(range(0, 300, 7)):
        assert one.model(i).content_hash == two.model(i).content_hash


def test_finders_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert finders.main(["--vectors", "300"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["finders"]
    assert len(table) == 1 + len(rows) == 3
    assert [row["bounded"] for row in rows] == [False, True]
    assert all(row["vectors"] == 300 and row["recall"] > 0.9 for row in rows)


@pytest.mark.parametrize("kind", ["shortlist", "uniform"])
def test_node_0_reaches_all(kind: str) -> None:
    tail, head, weight = make_graph(kind, 200, 1_000)
    assert len(tail) == len(head) == len(weight) == 1_000
    assert np.count_nonzero(minimum_directed_spanning_tree(200, tail, head, weight, root=0) < 0) == 1


def test_a_graph_grows_from_the_rebuilt_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a second call tells what the first one measured."""
    asked = ["--models", "200", "--new", "20", "--rebuild-first", "--folder", str(tmp_path)]
    told = []
    for _ in range(2):
        assert place.main(asked) == 0
        lines = capsys.readouterr().out.splitlines()
        told.append(json.loads(lines[-1]))
        assert [line.split("  ")[0] for line in lines[1:8]] == [
            "rebuild", "night removed", "one, largest family", "one, small family", "one, alone", "one removed", "night"
        ]  # fmt: skip
    assert told[0]["agreement_with_rebuild"] == 1.0
    assert told[0]["night_models"] == 17
    assert all(told[0][name] == told[1][name] for name in told[0] if not name.startswith("ancestors"))


def test_a_grown_graph_is_the_rebuilt_one(tmp_path: Path) -> None:
    models, first = 80, 70
    run_step(tmp_path / "grown", models, 0, range(first))
    run_step(tmp_path / "grown", models, 0, range(first, models), [3])
    present = [i for i in range(models) if i != 3]
    run_step(tmp_path / "afresh", models, 0, present[::-1])
    assert agreement(tmp_path / "grown", tmp_path / "afresh") == 1
    hub = SyntheticHub(models)
    share, either, by_kind = recovered(tmp_path / "grown", hub, present)
    assert 0.9 < share <= either <= 1
    assert set(by_kind) <= set(KINDS[1:])
    assert ancestors_warm_ms(tmp_path / "grown", [hub.name(5), hub.name(6)]) > 0


def test_figures_are_kept_and_only_told_of_the_same_bench(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    KeptFigures(path, {"models": 60}).put("night", {"peak": 1.5})
    again = KeptFigures(path, {"models": 60})
    assert again.get("night") == {"peak": 1.5}
    assert again.get("rebuild") is None
    with pytest.raises(SystemExit, match="name another --folder"):
        KeptFigures(path, {"models": 70})


def test_seconds_of_earlier_tries_count(tmp_path: Path) -> None:
    spent = tmp_path / "night.seconds"
    spent.write_text("12.5")
    run = run_step(tmp_path / "grown", 60, 0, range(60), spent=spent)
    assert run is not None
    assert run.before == 12.5
    assert run.total >= 12.5 + run.updated
