"""scripts/accuracy from end to end on a small collection: crawl, solve, score, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.sets import collections
from benchmarks.accuracy.sketching import sketched
from benchmarks.accuracy.solving import Task, solve
from benchmarks.accuracy.truth import read_truth
from store.errors import StopError
from tests import weights
from tests.calling import call, rows
from tests.grown import grow
from tests.weights import Weights

KEYS = (
    "set", "split", "mode", "models", "truth_edges", "directed_accuracy", "undirected_accuracy", "direction_accuracy",
    "precision", "recall", "ari", "ece",
)  # fmt: skip


def _tree(seed: int, tree: str) -> tuple[dict[str, Weights], list[str]]:
    """A root, two children, a grandchild, and rows of truth.csv."""
    rng = np.random.default_rng(seed)
    root = {f"layers.{i}.weight": (rng.standard_t(5, (48, 48)) * 0.05).astype(np.float32) for i in range(4)}
    models = {"root": root, "c0": grow(root, seed + 1, 0.2, 0.05), "c1": grow(root, seed + 2, 0.3, 0.02)}
    models["c0-g"] = grow(models["c0"], seed + 3, 0.2, 0.05)
    parents = {"root": "", "c0": "root", "c1": "root", "c0-g": "c0"}
    return (
        {f"{tree}/{name}": w for name, w in models.items()},
        [f"{tree}/{c},{p and f'{tree}/{p}'},{'finetune' if p else ''},,{tree}," for c, p in parents.items()],
    )


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "zoo" / "small"
    lines = ["child,parent,relation,stage,tree,coefficient"]
    order = ["model,order"]
    for seed, tree in ((10, "one"), (20, "two")):
        models, truth = _tree(seed, tree)
        lines += truth
        for at, (name, each) in enumerate(models.items()):
            weights.save(folder / name, each)
            order.append(f"{name},{at}")
    (folder / "truth.csv").write_text("\n".join(lines) + "\n")
    (folder / "order.csv").write_text("\n".join(order) + "\n")
    return folder


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_keep_the_contract(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sets", str(collection), "--data", str(tmp_path), "--peers", "--json"]) == 0
    first = capsys.readouterr()
    found = _lines(first.out)
    modes = ["default", "paper", "mst-upload-order", "kurtosis-root", "authors-code"]
    assert [(row["split"], row["mode"]) for row in found] == [
        (split, mode) for split in ("small/one", "small/two", "small") for mode in modes
    ]
    for row in found:
        assert [key for key in KEYS if key not in row] == []
        assert row["set"] == "zoo"
        assert (row["models"], row["truth_edges"]) == ((8, 6) if row["split"] == "small" else (4, 3))
        assert row["ari"] == 1.0
        assert (row["ece"] is None) == (row["mode"] != "default")
    assert all(row["directed_accuracy"] == 1.0 for row in found if row["mode"] in ("default", "mst-upload-order"))
    assert "sketching" in first.err
    # What was crawled is kept, by path or by the folder above.
    assert main(["--sets", str(collection.parent), "--data", str(tmp_path), "--json"]) == 0
    again = capsys.readouterr()
    assert "sketching" not in again.err
    keep = [{**row, "seconds": 0} for row in found if row["mode"] == "default"]
    assert [{**row, "seconds": 0} for row in _lines(again.out)] == keep


def test_a_table_for_people_and_a_picture(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "reliability.svg"
    assert main(["--sets", str(collection), "--data", str(tmp_path), "--reliability", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "default: 6 of 6 edges, direction included (1.000)" in out
    assert "zoo/small" in out
    assert picture.read_bytes().startswith(b"<?xml")


def test_the_answer_is_that_of_the_command_line(collection: Path, tmp_path: Path) -> None:
    (there,) = collections([str(collection)], 1, tmp_path)
    sketches = sketched(there.folder, there.graph)
    found = solve(Task(sketches.families, read_truth(there.folder, sketches.models)), "default")
    assert found is not None
    assert call("index", collection, graph=tmp_path / "graph").exit_code == 0
    edges = rows("edges", graph=tmp_path / "graph")
    assert {e["child"]: e["parent"] for e in edges} == found.parent
    assert {e["child"]: e["confidence"] for e in edges} == found.confidence
    assert {e["child"]: e["relation"] for e in edges} == found.relation


def test_metadata_is_used_where_it_is_allowed(collection: Path, tmp_path: Path) -> None:
    (there,) = collections([str(collection)], 1, tmp_path)
    sketches = sketched(there.folder, there.graph)
    truth = read_truth(there.folder, sketches.models)
    # Against the weights and the truth alike: all say that the last to come is the root.
    names = sorted(truth.models)
    order = {name: float(len(names) - at) for at, name in enumerate(names)}
    bases = {name: (f"{name.split('/')[0]}/root",) for name in names}
    weights_only = solve(Task(sketches.families, truth, order, bases), "default")
    told = solve(Task(sketches.families, truth, order, bases, use_metadata=True), "default")
    assert weights_only is not None
    assert told is not None
    assert weights_only.parent == {c: next(iter(p)) for c, p in truth.parents.items()}
    assert told.confidence != weights_only.confidence


def test_new_files_are_crawled(collection: Path, tmp_path: Path) -> None:
    folder = tmp_path / "growing"
    models, _ = _tree(30, "t")
    for name in ("t/root", "t/c0"):
        weights.save(folder / name, models[name])
    assert len(sketched(folder, tmp_path / "graph").models) == 2
    weights.save(folder / "t/c1", models["t/c1"])
    assert len(sketched(folder, tmp_path / "graph").models) == 3


def test_what_is_no_set_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sets", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "is no set" in capsys.readouterr().err
    assert main(["--mode", "paper", "--reliability", "x.svg", "--data", str(tmp_path)]) == 1
    assert "needs confidences" in capsys.readouterr().err
    with pytest.raises(StopError, match="has no split"):
        next(collections(["vthr/nothing"], 1, tmp_path))
