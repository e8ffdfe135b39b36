"""Placing a model that is not in the graph: what `identify` says is what `index` would."""

from __future__ import annotations

import shutil
from pathlib import Path

from crawl.folder import FolderSource
from crawl.ingest import sketch_model
from crawl.source import ModelRef
from indexer.identify import Relative, identify
from store.generation import open_reader
from tests.grown import grow, start
from tests.runs import index
from tests.weights import Weights, save


def _ask(graph: Path, place: Path, weights: Weights) -> list[Relative]:
    save(place / "unknown", weights)
    source = FolderSource(place)
    ref = next(item for item in source.models() if isinstance(item, ModelRef))
    with open_reader(graph) as connection:
        return identify(connection, graph, sketch_model(source, ref, budget=0).model, limit=10)


def test_identify(tmp_path: Path) -> None:
    root = start(1, layers=3, width=48)
    child = grow(root, 2)
    models = {"root": root, "child": child, "other": grow(root, 3), "stranger": start(9, layers=3, width=48)}
    for name, weights in models.items():
        save(tmp_path / "source" / name, weights)
    graph = tmp_path / "graph"
    index(tmp_path / "source", graph)

    grandchild = _ask(graph, tmp_path / "1", grow(child, 5))
    assert (grandchild[0].name, grandchild[0].direction, grandchild[0].relation) == ("child", "ancestor", "finetune")
    assert {r.name for r in grandchild} == {"root", "child", "other"}
    assert grandchild[0].distance == min(r.distance for r in grandchild)

    copy = _ask(graph, tmp_path / "2", {name: w.copy() for name, w in child.items()})
    assert (copy[0].name, copy[0].relation, copy[0].distance) == ("child", "copy", 0.0)

    half = _ask(graph, tmp_path / "3", {name: w.astype("float16") for name, w in child.items()})
    assert (half[0].name, half[0].relation) == ("child", "cast")

    # Without the search vectors every model is looked at, and the answer is the same.
    shutil.rmtree(graph / "shortlist")
    assert _ask(graph, tmp_path / "6", grow(child, 5)) == grandchild
    assert not (graph / "shortlist").exists()

    assert _ask(graph, tmp_path / "4", start(77, layers=3, width=48)) == []
    assert _ask(graph, tmp_path / "5", start(1, layers=5, width=24)) == []
