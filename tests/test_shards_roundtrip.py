"""Sketches come out of a shard as they went in, or not at all."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from crawl.plan import make_plan
from crawl.sketch import sketch_array
from store.dtypes import DTYPES
from store.errors import StopError
from store.format import SKETCH_VERSION, SketchFormat
from store.records import TensorSketch
from store.shards import SCHEMA, read_shard, write_shard

Models = Sequence[tuple[int, tuple[TensorSketch, ...]]]

INT64 = st.integers(0, 2**63 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@st.composite
def sketches(draw: st.DrawFn) -> TensorSketch:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    outliers = draw(st.integers(0, 4))
    k = draw(st.sampled_from([0, 1, 3]))
    return TensorSketch(
        tensor=draw(NAMES),
        source_name=draw(NAMES),
        dtype=dtype,
        shape=tuple(draw(st.lists(INT64, max_size=5))),
        elements=draw(INT64),
        covered=draw(INT64),
        **{name: draw(st.floats()) for name in ("mean", "sum_squares", "m2", "m3", "m4", "minimum", "maximum")},
        zeros=draw(INT64),
        content_hash=draw(st.binary(min_size=16, max_size=16)),
        outlier_values=draw(arrays.arrays(np.float64, outliers)),
        outlier_positions=draw(arrays.arrays(np.int64, outliers)),
        samples=draw(st.binary(max_size=6)) * DTYPES[dtype].itemsize,
        projection=draw(arrays.arrays(np.float32, k * k, elements=st.floats(width=32))),
        whole_hash=draw(st.none() | st.binary(min_size=16, max_size=16)),
    )


MODELS = st.lists(st.tuples(INT64, st.lists(sketches(), min_size=1, max_size=3).map(tuple)), unique_by=lambda m: m[0])


def bits(value: object) -> object:
    """A value such that equal means equal in every bit and in type."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return struct.pack("<d", value) if isinstance(value, float) else value


def exact(models: Models) -> list[tuple[int, list[list[object]]]]:
    names = [field.name for field in fields(TensorSketch)]
    return [(at, [[bits(getattr(sketch, name)) for name in names] for sketch in found]) for at, found in models]


def read(path: Path, models: Models) -> Models:
    return list(read_shard(path, {at for at, _ in models}))


def drawn(seed: int) -> Models:
    """Two models as the crawl makes them."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {
        "layers.0.größe": rng.normal(size=(9, 7)).astype(np.float32),
        "layers.1.größe": rng.normal(size=(9, 7)).astype(np.float32),
    }
    form = SketchFormat(projection=2)
    plan = make_plan({name: array.shape for name, array in tensors.items()}, form)
    found = tuple(
        sketch_array(array, "F32", tensor=name, plan=plan.tensors[name], form=form) for name, array in tensors.items()
    )
    return [(3, found), (7, found[:1])]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "arch=0" / "000001.parquet"
    write_shard(path, drawn(1), SketchFormat())
    return path


@settings(max_examples=40, deadline=None)
@given(models=MODELS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, models: Models) -> None:
    path = tmp_path_factory.getbasetemp() / "any" / "shard.parquet"
    size = write_shard(path, models, SketchFormat())
    assert path.stat().st_size == size
    assert [entry.name for entry in path.parent.iterdir()] == ["shard.parquet"]
    assert exact(read(path, models)) == exact(models)
    assert exact(read(path, models[1:2])) == exact(models[1:2])
    assert list(read_shard(path, [])) == []


def test_what_the_crawl_sketches_is_read(shard: Path) -> None:
    models = drawn(1)
    assert models[0][1][0].projection.size == 4
    assert exact(read(shard, models)) == exact(models)
    notes = {key.encode(): value.encode() for key, value in SketchFormat().as_metadata().items()}
    assert pq.read_schema(shard).metadata.items() >= notes.items()


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_told_or_harmless(shard: Path, place: float, flip: int) -> None:
    """Never other numbers: every page has a checksum. Some bytes of the file's own notes mean nothing to a reader."""
    raw = bytearray(shard.read_bytes())
    raw[int(place * len(raw))] ^= flip
    damaged = shard.with_name("damaged.parquet")
    damaged.write_bytes(raw)
    told, found = "", None
    try:
        found = exact(read(damaged, drawn(1)))
    except StopError as error:
        told = str(error)
    assert told.startswith(f"{damaged}: ") or found == exact(drawn(1))


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_shard_is_told(shard: Path, share: float) -> None:
    raw = shard.read_bytes()
    damaged = shard.with_name("damaged.parquet")
    damaged.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(
        StopError, match=r"damaged.parquet: the shard cannot be read .*delete it and index its source again"
    ):
        read(damaged, drawn(1))


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    with pytest.raises(StopError, match=r"gone.parquet: the shard cannot be read"):
        read(tmp_path / "gone.parquet", drawn(1))


@pytest.mark.parametrize("version", [str(SKETCH_VERSION + 1), "unknown", ""])
def test_sketches_of_another_version_are_not_read(shard: Path, version: str) -> None:
    path = shard.with_name("other.parquet")
    table = pq.read_table(shard, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"modelkin.version": version} if version else {}), path)
    found = version or "unknown"
    with pytest.raises(StopError, match=f"other.parquet: sketch version {found}, this modelkin reads {SKETCH_VERSION}"):
        read(path, drawn(1))


def test_other_columns_are_not_read(shard: Path) -> None:
    path = shard.with_name("narrow.parquet")
    table = pq.read_table(shard, partitioning=None)
    pq.write_table(table.drop_columns(["m4"]), path)
    with pytest.raises(StopError, match=f"narrow.parquet: expected the columns {SCHEMA.names[0]}, .*m4"):
        read(path, drawn(1))
