"""What truth.csv says, in all the forms that it comes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy.truth import TruthRow, generalizing, make_truth, read_order, read_truth, restrict
from store.errors import StopError


def _write(folder: Path, text: str) -> Path:
    (folder / "truth.csv").write_text(text)
    return folder


def test_two_columns_and_no_row_for_the_root(tmp_path: Path) -> None:
    truth = read_truth(_write(tmp_path, "child,parent\nb,a\nc,b\n"), ["a", "b", "c", "s"])
    assert truth.parents == {"b": {"a"}, "c": {"b"}}
    assert truth.orphans == frozenset()
    assert truth.cluster["a"] == truth.cluster["c"] != truth.cluster["s"]
    assert truth.clusters == 2


def test_all_columns(tmp_path: Path) -> None:
    text = (
        "child,parent,relation,stage,tree,coefficient\n"
        "t/a,,,,t,\nt/b,t/a,finetune,specialization,t,\n"
        "t/m,t/a,merge,specialization,t,0.3\nt/m,t/b,merge,specialization,t,0.7\n"
    )
    truth = read_truth(_write(tmp_path, text), ["t/a", "t/b", "t/m"])
    assert truth.parents["t/m"] == {"t/a", "t/b"}
    assert truth.relation == {"t/b": "finetune", "t/m": "merge"}
    assert set(truth.tree.values()) == {"t"}


def test_children_of_a_missing_parent_are_orphans_of_one_cluster() -> None:
    rows = [TruthRow("b", "missing:x"), TruthRow("c", "missing:x"), TruthRow("d", "c"), TruthRow("e", "missing:y")]
    truth = make_truth(rows, "bcde")
    assert truth.orphans == set("bce")
    assert truth.parents == {"d": {"c"}}
    assert truth.cluster["b"] == truth.cluster["d"] != truth.cluster["e"]


def test_what_is_missing_is_placed_by_the_name_of_its_tree() -> None:
    rows = [TruthRow("a", tree="t"), TruthRow("b", "missing:x", tree="t"), TruthRow("c", tree="u")]
    truth = make_truth(rows, "abc")
    assert truth.cluster["a"] == truth.cluster["b"] != truth.cluster["c"]


def test_a_part_of_a_truth_has_orphans_where_parents_are_left_out() -> None:
    truth = make_truth([TruthRow("b", "a"), TruthRow("c", "b"), TruthRow("m", "b"), TruthRow("m", "c")], "abcm")
    part = restrict(truth, ["a", "c", "m"])
    assert part.models == ("a", "c", "m")
    assert part.orphans == {"c"}
    assert part.parents == {"m": {"c"}}
    assert part.clusters == 1


def test_a_name_that_is_not_there_stops(tmp_path: Path) -> None:
    for text in ("child,parent\nb,a\n", "child,parent\na,b\n"):
        with pytest.raises(StopError, match=r"names b, and .* has no such model"):
            read_truth(_write(tmp_path, text), ["a"])
    with pytest.raises(StopError, match="expected the columns child and parent"):
        read_truth(_write(tmp_path, "from,to\na,b\n"), ["a", "b"])


def test_a_model_that_could_not_be_read_counts(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    truth = read_truth(_write(tmp_path, "child,parent\nb,a\n"), ["a"])
    assert truth.models == ("a", "b")
    assert truth.parents == {"b": {"a"}}


def test_order(tmp_path: Path) -> None:
    assert read_order(tmp_path) is None
    (tmp_path / "order.csv").write_text("model,order\na,1\nb,0\n")
    assert read_order(tmp_path) == {"a": 1.0, "b": 0.0}


def test_a_root_is_labelled_as_its_children_are() -> None:
    """Whatever stage its own row says: in the paper's trees even the foundation model counts as specialization."""
    rows = [
        TruthRow("a", "", stage="generalization"),
        TruthRow("b", "a", stage="specialization"),
        TruthRow("c", "a", stage="specialization"),
        TruthRow("d", "c", stage="generalization"),
        TruthRow("x", ""),
        TruthRow("y", "x", stage="generalization"),
        TruthRow("z", "missing:w", stage="generalization"),
    ]
    assert generalizing(make_truth(rows, "abcdxyz")) == {"d", "x", "y", "z"}
