"""A byte budget on models that are not stored as they are read: one sketch whether all or a part of a file is read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import save_file

from crawl.ahead import Ahead
from crawl.folder import FolderSource
from crawl.hub import HubSource
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef, Source
from scripts.every_format import small_bert, write_every_format, write_gguf
from scripts.hub_server import HubServer
from store.format import SketchFormat
from store.positions import LARGE
from store.records import Model
from tests.bytes_reader import BytesReader
from tests.weights import Weights

pytestmark = pytest.mark.usefixtures("own_session")

FORM = SketchFormat(probe=1 << 17)
BUDGET = 12 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model with four matrices of more than LARGE values in every format, and in a quantisation."""
    folder = tmp_path_factory.mktemp("hub")
    state = small_bert(2, 576)
    write_every_format(folder / "o", state)
    write_gguf(folder / "o" / "gguf-q8" / "m-Q8_0.gguf", state, GGMLQuantizationType.Q8_0)
    return folder


def sketched(source: Source, budget: int) -> dict[str, Model]:
    return {
        ref.name: sketch_model(source, ref, budget=budget, form=FORM).model
        for ref in source.models()
        if isinstance(ref, ModelRef)
    }


def of(model: Model) -> list[str]:
    return [repr(replace(sketch, whole_hash=None)) for sketch in model.sketches]


def test_a_budget_says_the_same_of_every_format(root: Path) -> None:
    whole = sketched(FolderSource(root), 0)
    with HubServer(root) as hub:
        few = sketched(HubSource(hub.url), BUDGET)
    assert len(whole) == 10
    assert set(few) == set(whole)
    for name, model in few.items():
        assert of(model) == of(whole[name]), name
        assert model.content_hash == whole[name].content_hash
        assert sum(sketch.covered < sketch.elements for sketch in model.sketches) == 4
        assert all((sketch.elements > LARGE) is (sketch.whole_hash is None) for sketch in model.sketches)
        plain = not name.endswith(("flax", "keras", "onnx"))
        # A transposed matrix is read whole, as its run is all over it.
        assert model.bytes_read < (0.75 if plain else 1.1) * model.bytes_total, name
    exact = [name for name in whole if "gguf" not in name or name.endswith("f32")]
    assert len({few[name].content_hash for name in exact}) == 1


def test_scales_that_lie_elsewhere_cost_no_range_twice(tmp_path: Path) -> None:
    """Weights first and scales last: reading a scale lets go of no weight that is on its way."""
    random = np.random.default_rng(0)
    tensors: Weights = {}
    for i in range(8):
        # Of eight 4-bit values an int32; safetensors puts the shorter type last.
        tensors[f"layers.{i}.a.qweight"] = random.integers(0, 2**31, (32, 4096), np.int32)
        tensors[f"layers.{i}.a.qzeros"] = random.integers(0, 2**31, (2, 512), np.int32)
        tensors[f"layers.{i}.a.scales"] = random.random((2, 4096), np.float32).astype(np.float16)
    (tmp_path / "o" / "m").mkdir(parents=True)
    save_file(tensors, tmp_path / "o" / "m" / "model.safetensors")
    with HubServer(tmp_path) as hub:
        (model,) = sketched(HubSource(hub.url), 0).values()
    (whole,) = sketched(FolderSource(tmp_path), 0).values()
    assert of(model) == of(whole)
    assert len(model.sketches) == 8
    assert model.bytes_read < 1.1 * model.bytes_total


def test_what_a_tensor_reads_beside_its_own_bytes_lets_go_of_nothing() -> None:
    content = bytes(range(200))
    asked: list[int] = []

    def fetch(start: int, stop: int) -> memoryview:
        asked.append(start)
        return memoryview(content[start:stop])

    with ThreadPoolExecutor(1) as pool:
        reader = Ahead(BytesReader(content), [(10, 20), (30, 40), (50, 60)], fetch, pool)
        reader.turn_to(10, 40)
        got = bytearray(5)
        for at in (10, 150, 15, 100, 30, 55, 35):
            reader.read_into(at, memoryview(got))
            assert got == content[at : at + 5]
        assert len(reader._coming) == 2
        reader.close()
    assert asked == [10, 30, 50]
