"""What `identify` can be asked about, over a graph of tiny weights: base -> child, and another one by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from crawl.folder import FolderSource
from modelkin import ModelGraph, StopError
from modelkin.nightly import run
from store.progress import SilentProgress
from tests.small_graph import WHEN, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    base = write_weights(folder / "models/org/base", 1)
    write_weights(folder / "models/org/child", 2, parent=base)
    write_weights(folder / "models/org/alone", 3)
    run(
        folder / "graph",
        FolderSource(folder / "models"),
        command="index",
        mode="default",
        budget=0,
        complete=True,
        progress=SilentProgress(),
        clock=lambda: WHEN,
    )
    write_weights(folder / "new/one", 4, parent=folder / "models/org/child")
    return folder


def test_identify_a_folder_a_file_and_a_state_dict(weights: Path) -> None:
    with ModelGraph.open(weights / "graph") as graph:
        found = graph.identify(weights / "new/one")
        assert {row.name for row in found} == {"org/base", "org/child"}
        assert found == graph.identify(str(weights / "new/one/model.safetensors"))
        state = load_file(weights / "new/one/model.safetensors")
        assert [row.name for row in graph.identify({**state, "step": 7})] == [row.name for row in found]
        assert len(graph.identify(weights / "new", limit=1)) == 1
        assert len(graph) == 3


def test_identify_a_state_dict_of_torch_with_tied_weights(weights: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {k: torch.tensor(v) for k, v in load_file(weights / "new/one/model.safetensors").items()}
    with ModelGraph.open(weights / "graph") as graph:
        expected = graph.identify(weights / "new/one")
        assert [row.name for row in graph.identify(state)] == [row.name for row in expected]
        state["tied"] = state["layers.0.weight"]
        graph.identify({name: value.to(torch.bfloat16) for name, value in state.items()})


def test_identify_a_file_of_another_format(weights: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = load_file(weights / "new/one/model.safetensors")
    file = tmp_path / "new/pytorch_model.bin"
    file.parent.mkdir()
    torch.save({name: torch.tensor(array) for name, array in state.items()}, file)
    with ModelGraph.open(weights / "graph") as graph:
        assert graph.identify(file) == graph.identify(weights / "new/one")
        (file.parent / "model.safetensors").write_bytes((weights / "new/one/model.safetensors").read_bytes())
        with pytest.raises(StopError, match=r"is read from model\.safetensors"):
            graph.identify(file)


def test_identify_a_snapshot_of_the_cache(weights: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--org--new"
    blob = repository / "blobs/0123"
    snapshot = repository / f"snapshots/{'a' * 40}"
    blob.parent.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    blob.write_bytes((weights / "new/one/model.safetensors").read_bytes())
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    with ModelGraph.open(weights / "graph") as graph:
        expected = graph.identify(weights / "new/one")
        for path in (snapshot, snapshot / "model.safetensors", repository, tmp_path / "hub"):
            assert graph.identify(path) == expected


def test_identify_needs_one_model(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with ModelGraph.open(weights / "graph") as graph:
        with pytest.raises(StopError, match=r"holds 3 models \(org/alone, org/base, org/child\)"):
            graph.identify(weights / "models")
        with pytest.raises(StopError, match="found nothing"):
            graph.identify(weights / "gone")
        with pytest.raises(StopError, match="no model in"):
            graph.identify(tmp_path)
        with pytest.raises(StopError, match="file of weights"):
            graph.identify(tmp_path / "notes.txt")
        with pytest.raises(StopError, match="names to tensors, found int"):
            graph.identify({"step": 7})
        with pytest.raises(StopError, match="constant"):
            graph.identify({"layers.0.weight": np.ones((8, 8), np.float32)})


def test_identify_of_strangers_is_empty(weights: Path) -> None:
    with ModelGraph.open(weights / "graph") as graph:
        assert graph.identify({"w": np.arange(64.0).reshape(8, 8)}) == ()
