"""The table of relations: counts by hand, ranks and frozen shares from whole weights, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.relations import UNKNOWN, confusion
from benchmarks.accuracy.score import Found
from benchmarks.accuracy.truth import TruthRow, make_truth
from benchmarks.accuracy.whole_relations import frozen_share, weights_reader, whole_rank
from tests import weights
from tests.grown import grow
from tests.test_adapter import adapted, blocks
from tests.test_derived import on_all, pruned, rows


def test_only_edges_with_a_true_parent_are_counted() -> None:
    said = {"a": ("r", "lora"), "b": ("r", "finetune"), "c": ("a", "cast"), "d": ("r", "merge"), "e": ("r", "")}
    truth = make_truth([TruthRow(c, p, relation) for c, (p, relation) in said.items()], ["r", *said])
    found = Found(
        {"a": "r", "b": "r", "c": "b", "d": "r", "e": "r"},
        {},
        relation={"a": "finetune", "b": "finetune", "c": "cast", "d": "merge", "e": "pruned"},
    )
    assert confusion(truth, found) == {
        UNKNOWN: {"pruned": 1},
        "finetune": {"finetune": 1},
        "lora": {"finetune": 1},
        "merge": {"merge": 1},
    }


@pytest.mark.parametrize("rank", [1, 7, 40])
def test_the_rank_of_whole_matrices(rank: int) -> None:
    root = blocks(3)
    assert whole_rank(root, adapted(root, 4, rank)) == rank
    assert whole_rank(root, root) == 0
    short = on_all(root, lambda w: w.astype(ml_dtypes.bfloat16))
    assert whole_rank(short, on_all(adapted(root, 4, rank), lambda w: w.astype(ml_dtypes.bfloat16))) is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = blocks(1)
    child = grow(root, 2, 0.05)
    models = {"root": root, "full": child, "lora": adapted(root, 3, 8)}
    models["upper"] = root | {name: w for name, w in grow(root, 4, 0.05).items() if name.startswith("layer.2.")}
    models["other"] = grow(child, 5, 0.05)
    models["int8"] = on_all(child, lambda w: rows(w) if w.ndim == 2 else w)
    models["pruned"] = root | pruned({n: w for n, w in root.items() if w.ndim == 2}, 0.4)
    truth = {"full": ("root", "finetune"), "lora": ("root", "lora"), "upper": ("root", "partial")}
    truth |= {"other": ("full", "finetune")}
    truth |= {"int8": ("full", "quantized"), "pruned": ("root", "pruned")}
    folder = tmp_path / "zoo" / "few"
    for name, each in models.items():
        weights.save(folder / name, each)
    lines = [f"{c},{p},{relation},,," for c, (p, relation) in truth.items()]
    (folder / "truth.csv").write_text("\n".join(["child,parent,relation,stage,tree,coefficient", *lines]) + "\n")
    options = ["--data", str(tmp_path / "data"), "--sets", str(folder), "--relations"]
    assert main([*options, "--json"]) == 0
    (line,) = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert line["confusion"] == {
        relation: {relation: 2 if relation == "finetune" else 1} for _, relation in truth.values()
    }
    assert (line["right_parents"], line["known"], line["right_relations"]) == (6, 6, 6)
    assert line["lora"]["edges"] == line["lora"]["rank_told"] + line["lora"]["rank_bounded"] == 1
    assert (line["lora"]["worst_error"], line["lora"]["wrong_bounds"]) == (0, 0)
    assert line["partial"] == {"edges": 1, "share_exact": 1}
    read = weights_reader(folder)
    assert frozen_share(read("root"), read("upper")) == pytest.approx(2 / 3)
    assert main(options) == 0
    assert "6 of 6 edges with a true parent have the true relation" in capsys.readouterr().out
