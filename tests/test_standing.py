"""A large tree through many runs, read by row and with edges that stand: each graph is what a rebuild gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from indexer import update as updating
from indexer.family import Family
from indexer.reading import Reader
from tests.grown import grow, start
from tests.large_trees import lower_limits
from tests.runs import answers, index
from tests.weights import Weights, save


def _models() -> dict[str, Weights]:
    """A base, three children with four each, and two each below those; a cast, a merge, a pruned model and a copy."""
    models = {"m": start(11, layers=4, width=40)}
    for i in range(3):
        models[f"m-{i}"] = grow(models["m"], i, 0.15)
        for j in range(4):
            models[f"m-{i}-{j}"] = grow(models[f"m-{i}"], 10 * i + j + 50, 0.1)
            for k in range(2):
                models[f"m-{i}-{j}-{k}"] = grow(models[f"m-{i}-{j}"], 100 * i + 10 * j + k + 500, 0.08)
    models["cast"] = {name: w.astype(np.float16) for name, w in models["m-0-1"].items()}
    models["copy"] = {name: w.copy() for name, w in models["m-1-0"].items()}
    models["merge"] = {name: (w + models["m-2-1"][name]) / 2 for name, w in models["m-2-0"].items()}
    models["pruned"] = {
        name: np.where(np.abs(w) < np.quantile(np.abs(w), 0.3), 0, w).astype(w.dtype)
        for name, w in models["m-2-2"].items()
    }
    # Steps that were counted say who came first, so that there is no doubt about the root whoever comes and goes.
    return {
        name: {**weights, "layers.0.num_batches_tracked": np.array(100 * (1 + name.count("-")), np.int64)}
        for name, weights in models.items()
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for name, weights in _models().items():
        save(folder / name, weights)
    for name, base in (("m-0-1", "m-0"), ("m-2-0-1", "m-2"), ("m-1-3", "m-2"), ("cast", "m-0-1")):
        (folder / name / "README.md").write_text(f"---\nbase_model: {base}\n---\n")
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Trees that were read by row, edges that stood and that were told; all trees of more than 8 models are large."""
    count = {"by row": 0, "stood": 0, "told": 0}
    by_row, write = Reader.by_row, updating._write

    def read(self: Reader, ids: Any) -> Family:
        family = by_row(self, ids)
        count["by row"] += family.samples.by_row
        return family

    def noted(writer: Any, found: Any, placed: Any) -> Any:
        count["stood"] += sum(len(component.standing) for _, component in found)
        count["told"] += sum(len(component.edges) for _, component in found)
        return write(writer, found, placed)

    monkeypatch.setattr(Reader, "by_row", read)
    monkeypatch.setattr(updating, "_write", noted)
    lower_limits(monkeypatch.setattr)
    return count


def _set(everything: Path, source: Path, names: set[str]) -> None:
    for path in everything.iterdir():
        target = source / path.name
        if path.name in names and not target.exists():
            shutil.copytree(path, target)
        elif path.name not in names and target.exists():
            shutil.rmtree(target)


@pytest.mark.parametrize(("seed", "metadata"), [(0, False), (1, True)])
def test_the_graph_is_what_a_rebuild_gives(
    everything: Path, tmp_path: Path, counted: dict[str, int], metadata: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source = tmp_path / "source"
    source.mkdir()
    every = sorted(_models())
    present = set(rng.permutation(every)[:-8].tolist())
    for step in range(7):
        _set(everything, source, present)
        index(source, tmp_path / "grown", use_metadata=metadata)
        told = dict(counted)
        index(source, tmp_path / f"afresh-{step}", use_metadata=metadata)
        counted |= told
        assert answers(tmp_path / "grown") == answers(tmp_path / f"afresh-{step}")
        gone = set(rng.permutation(sorted(present))[: rng.integers(0, 3)].tolist())
        come = set(rng.permutation(sorted(set(every) - present))[: rng.integers(1, 3)].tolist())
        present = (present - gone) | come
    assert counted["by row"] >= 5
    assert counted["stood"] > 10


def test_edges_that_are_gone_from_the_graph_are_told_anew(
    everything: Path, tmp_path: Path, counted: dict[str, int]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    every = set(_models())
    _set(everything, source, every - {"m-0-0-0", "m-1-1-1"})
    index(source, tmp_path / "graph")
    _set(everything, source, every - {"m-0-0-0"})
    index(source, tmp_path / "graph")
    assert counted["stood"] > 0
    with duckdb.connect(str(tmp_path / "graph" / "graph-000002.duckdb")) as connection:
        connection.execute("delete from edges where valid_to_run is null and relation = 'finetune'")
    _set(everything, source, every)
    index(source, tmp_path / "graph")
    index(source, tmp_path / "afresh")
    assert answers(tmp_path / "graph") == answers(tmp_path / "afresh")
