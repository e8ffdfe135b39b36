"""Answers as text, HTML and JSON: large trees, strange numbers, names made to do harm."""

from __future__ import annotations

import math
from pathlib import Path

from modelkin import ModelGraph
from modelkin.drawing import tree_lines
from modelkin.plain import as_json
from modelkin.tree import Placed, build_tree
from tests.small_graph import WHEN, build


def test_names_from_outside_are_harmless_in_notebooks(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\x1b[2J"
    with ModelGraph.open(build(tmp_path / "g", {name: None, "child": name})) as graph:
        for answer in (graph.ancestors("child"), graph.tree("child"), graph.explain("child"), graph.models()):
            html = answer._repr_html_()
            assert "&lt;script&gt;" in html
            for refused in ("<script", "\x1b"):
                assert refused not in html
            assert "\x1b" not in repr(answer) + str(answer)


def test_deep_trees_need_no_recursion() -> None:
    depth = 3_000
    tree = build_tree(Placed(i, i - 1 if i else None, f"m{i}", "finetune", 0.1, 0.9) for i in range(depth))
    assert [node.depth for node in tree.nodes] == list(range(depth))
    assert sum(1 for _ in tree_lines(tree)) == depth
    assert as_json(tree).count("parent") == depth


def test_wide_trees_show_some_children_and_the_one_asked_for() -> None:
    rows = [Placed(0, None, "root", None, None, None)]
    rows += [Placed(i, 0, f"m{i:03}", "finetune", 0.1, 0.9) for i in range(1, 101)]
    tree = build_tree(rows, asked=77)
    lines = list(tree_lines(tree, 3))
    assert [line.split()[1] for line in lines[1:]] == ["m001", "m002", "m077", "..."]
    assert lines[-1] == "└── ... and 97 more"
    assert lines[-2].startswith("├── m077")
    assert len(list(tree_lines(tree, 0))) == 101
    assert list(tree_lines(tree, 1, ascii_only=True))[1:] == [
        "|-- m077  (finetune, distance 0.1, confidence 0.9)  <-",
        "`-- ... and 99 more",
    ]


def test_json_has_no_nan_and_no_control_characters() -> None:
    text = as_json({"a": math.nan, "b": [math.inf, 1.5], "c": "x\x1b\x9b\u202ey", "d": WHEN, "e": b"\x01"})
    assert text == (
        '{"a": null, "b": [null, 1.5], "c": "x\\u001b\\u009b\\u202ey", "d": "2024-05-28T10:00:00+00:00", "e": "01"}'
    )
