"""Families of more models than are read together are those that are read at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from indexer.reading import Reader
from store.generation import open_reader
from store.lineage import LiveModel, read_sketches
from tests.grown import grow, start
from tests.runs import index
from tests.test_gathered import check_equal
from tests.weights import Weights, save


def _models() -> dict[str, Weights]:
    root = start(3)
    models = {f"m{at}": grow(root, at) for at in range(12)}
    models["m3"] = {name: w.astype(np.float16) for name, w in models["m3"].items()}
    return models


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of four shards."""
    folder = tmp_path_factory.mktemp("reading")
    for at, (name, weights) in enumerate(_models().items(), 1):
        save(folder / "source" / name, weights)
        if at % 3 == 0:
            index(folder / "source", folder / "graph")
    return folder / "graph"


@pytest.mark.parametrize("together", [1, 3, 5, 11])
def test_families_are_read_in_parts(graph: Path, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_reader(graph) as connection:
        models = connection.sql("select model_id, architecture from live_models order by name desc").fetchall()
        (architecture,) = {model[1] for model in models}
        ids = [model[0] for model in models]
        whole = Reader(connection, graph, architecture)(ids)
        monkeypatch.setattr("indexer.reading._PART", together)
        check_equal(Reader(connection, graph, architecture, 2)(ids), whole)


def test_no_part_holds_more_than_a_shard(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is read twice."""
    asked: list[list[str]] = []

    def noted(path: Path, models: Sequence[LiveModel], columns: Sequence[str], threads: int) -> list[object]:
        asked.append([model.name for model in models])
        return read_sketches(path, models, columns, threads)

    monkeypatch.setattr("indexer.reading.read_sketches", noted)
    monkeypatch.setattr("indexer.reading._PART", 2)
    with open_reader(graph) as connection:
        models = connection.sql("select model_id, architecture from live_models").fetchall()
        family = Reader(connection, graph, models[0][1])([model[0] for model in models])
    assert [len(names) for names in asked] == [3, 3, 3, 3]
    assert sorted(name for names in asked for name in names) == sorted(family.names)
