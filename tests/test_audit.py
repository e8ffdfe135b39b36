"""What `audit` says of claims: verdicts, and the evidence that a claim was weighed."""

from __future__ import annotations

from pathlib import Path

from modelkin import ModelGraph
from tests.calling import call, rows
from tests.grown import grow, start
from tests.runs import index
from tests.small_graph import build
from tests.source_files import declare
from tests.weights import save


def test_audit_shows_a_claim_that_was_weighed_and_lost(tmp_path: Path) -> None:
    root = start(3, layers=3, width=40)
    models = {"o/root": root, "o/a": grow(root, 1), "o/b": grow(root, 2)}
    models |= {"o/a-child": grow(models["o/a"], 3), "o/b-child": grow(models["o/b"], 4)}
    for name, weights in models.items():
        save(tmp_path / "source" / name, weights)
    declare(tmp_path / "source/o/a-child", "o/b")
    declare(tmp_path / "source/o/b-child", "o/b")
    for used_metadata in (False, True):
        index(tmp_path / "source", tmp_path / "graph", use_metadata=used_metadata)
        with ModelGraph.open(tmp_path / "graph") as graph:
            assert {row.model: (row.measured_parent, row.verdict) for row in graph.audit()} == {
                "o/a-child": ("o/a", "contradicted"),
                "o/b-child": ("o/b", "confirmed"),
            }
            said = [e.says for e in graph.explain("o/a-child").evidence if e.cue == "claim"]
    assert said == ["the card declares o/b, which the weights contradict"]


def test_verdicts_on_circles_copies_and_silence(tmp_path: Path) -> None:
    claims = {"org/base": "org/child", "org/child": "org/base", "org/child2": "lab/grand", "lab/grand": "org/child2"}
    graph = build(tmp_path / "circles", claims=claims)
    assert {row["model"]: row["verdict"] for row in rows("audit", graph=graph)} == {
        "org/base": "circular",
        "org/child": "confirmed",
        "org/child2": "circular",
        "lab/grand": "circular",
    }

    weights = start(3, layers=3, width=40)
    models = {"a": weights, "b": weights, "child": grow(weights, 1), "other": grow(weights, 2)}
    for name, each in models.items():
        save(tmp_path / "source" / name, each)
    declare(tmp_path / "source/a", "b")
    declare(tmp_path / "source/child", "b")
    graph = tmp_path / "graph"
    index(tmp_path / "source", graph)
    # Weights alone take the first of two copies for the original, which is no objection to the second.
    assert {row["model"]: row["verdict"] for row in rows("audit", graph=graph)} == {
        "a": "confirmed, a copy",
        "child": "confirmed, a copy",
    }
    every = {row["model"]: (row["claimed_parent"], row["verdict"]) for row in rows("audit", "--all", graph=graph)}
    assert every["b"] == every["other"] == (None, "missing")
    assert len(every) == 4
    assert "2 missing" in call("audit", "--all", graph=graph).stderr
    index(tmp_path / "source", graph, use_metadata=True)
    assert {row["verdict"] for row in rows("audit", graph=graph)} == {"confirmed"}
