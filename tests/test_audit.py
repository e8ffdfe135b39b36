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


def test_a_longer_circle_and_a_card_that_declares_itself(tmp_path: Path) -> None:
    claims = {"org/alone": "org/alone", "lab/grand": "org/child2", "org/child2": "org/alone2"}
    graph = build(tmp_path / "itself", claims=claims)
    assert {row["model"]: row["verdict"] for row in rows("audit", graph=graph)} == {
        "org/alone": "circular",
        "lab/grand": "contradicted",
        "org/child2": "unknown base",
    }
    # org/base -> lab/grand -> org/child2 -> org/base, of which only the last is so.
    claims = {"org/base": "lab/grand", "lab/grand": "org/child2", "org/child2": "org/base"}
    graph = build(tmp_path / "three", claims=claims)
    assert {row["model"]: row["verdict"] for row in rows("audit", graph=graph)} == {
        "org/base": "circular",
        "lab/grand": "circular",
        "org/child2": "confirmed",
    }


def test_a_renamed_base_is_followed(tmp_path: Path) -> None:
    source, graph = tmp_path / "source", tmp_path / "graph"
    root = start(3, layers=3, width=40)
    save(source / "o/old", root)
    for name, seed in (("o/a", 1), ("o/b", 2)):
        save(source / name, grow(root, seed))
        declare(source / name, "o/old")
    index(source, graph)
    before = rows("audit", graph=graph)
    assert {(row["model"], row["verdict"], row["detail"]) for row in before} == {
        ("o/a", "confirmed", None),
        ("o/b", "confirmed", None),
    }
    (source / "o/old").rename(source / "o/new")
    index(source, graph)
    assert {
        (row["model"], row["claimed_parent"], row["verdict"], row["detail"]) for row in rows("audit", graph=graph)
    } == {
        ("o/a", "o/old", "confirmed", "now o/new"),
        ("o/b", "o/old", "confirmed", "now o/new"),
    }
    assert rows("audit", "--as-of", "1", graph=graph) == before


def test_a_stricter_license_above_and_a_relation_that_was_not_measured(tmp_path: Path) -> None:
    source, graph = tmp_path / "source", tmp_path / "graph"
    models = {"o/root": start(3, layers=3, width=40)}
    models |= {name: grow(models["o/root"], seed) for name, seed in (("o/a", 1), ("o/b", 2), ("o/c", 3))}
    models["o/a-child"] = grow(models["o/a"], 4)
    cards = {
        "o/root": "license: Llama2",
        "o/a": "license: apache-2.0\nbase_model: o/root\nbase_model_relation: quantized",
        "o/b": "license: [mit, cc-by-nc-4.0]\nbase_model: o/root\nbase_model_relation: finetune",
        "o/c": "license: other",
        "o/a-child": "license: gpl-3.0",
    }
    for name, weights in models.items():
        save(source / name, weights)
        (source / name / "README.md").write_text(f"---\n{cards[name]}\n---\n")
    index(source, graph, use_metadata=True)
    found = {
        (row["model"], row["verdict"]): (row["measured_parent"], row["detail"]) for row in rows("audit", graph=graph)
    }
    assert found == {
        ("o/a", "confirmed"): ("o/root", "declared quantized, measured finetune"),
        ("o/b", "confirmed"): ("o/root", None),
        ("o/a", "stricter license"): (
            "o/root",
            "apache-2.0 (permissive), but llama2 (use-restricted) above it",
        ),
        ("o/a-child", "stricter license"): (
            "o/root",
            "gpl-3.0 (copyleft), but llama2 (use-restricted) above it",
        ),
    }
    with ModelGraph.open(graph) as opened:
        assert {claim.claimed_parent for claim in opened.explain("o/a").claims} == {"o/root"}
        families = opened.sql("select family, strictness from licenses group by all order by 2").fetchall()
    assert families == [
        ("permissive", 0),
        ("share-alike", 1),
        ("copyleft", 2),
        ("use-restricted", 3),
        ("non-commercial", 4),
    ]
