"""Under a byte budget a Hub's model has the sketch that whoever reads all of it has, from a small part of the bytes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from starlette.requests import Request
from starlette.responses import Response

from crawl import ahead, pace
from crawl.ahead import Ahead, requests_for
from crawl.folder import FolderSource
from crawl.hub import HubSource
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef, Source
from scripts.hub_server import HubServer
from store.errors import RetryError, SkipError
from store.format import SketchFormat
from store.positions import LARGE
from store.records import Model, TensorSketch
from tests.bytes_reader import BytesReader
from tests.hub_models import Asked, Once, make_models, read
from tests.weights import Weights

pytestmark = pytest.mark.usefixtures("own_session")

BUDGET = 5 << 20
FORM = SketchFormat(probe=1 << 19)
"""Runs that are small beside the tensors of a test."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in two shards of 26 MB, in float32, and what its values are in bfloat16 in one file."""
    rng = np.random.default_rng(0)
    weights: Weights = {}
    for i in range(6):
        weights[f"layers.{i}.up.weight"] = rng.standard_normal((1025, 2050), np.float32).astype(ml_dtypes.bfloat16)
        weights[f"layers.{i}.norm.weight"] = rng.standard_normal(1025, np.float32).astype(ml_dtypes.bfloat16)
    folder = tmp_path_factory.mktemp("hub")
    for name in ("short", "long"):
        (folder / "o" / name).mkdir(parents=True)
    save_file(weights, folder / "o" / "short" / "model.safetensors")
    names = sorted(weights)
    placed: dict[str, str] = {}
    for shard, part in enumerate((names[:7], names[7:]), 1):
        path = f"model-{shard:05d}-of-00002.safetensors"
        save_file({name: weights[name].astype(np.float32) for name in part}, folder / "o" / "long" / path)
        placed |= dict.fromkeys(part, path)
    (folder / "o" / "long" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return folder


def sketched(source: Source, budget: int) -> dict[str, Model]:
    return {
        ref.name: sketch_model(source, ref, budget=budget, form=FORM).model
        for ref in source.models()
        if isinstance(ref, ModelRef)
    }


def of(model: Model, **changed: object) -> list[str]:
    """All that sketches say, to compare."""
    return [repr(replace(sketch, whole_hash=None, **changed)) for sketch in model.sketches]  # type: ignore[arg-type]


def without_dtype(sketch: TensorSketch) -> tuple[object, ...]:
    return sketch.tensor, sketch.covered, len(sketch.outlier_values), sketch.outlier_positions.tolist(), sketch.mean


def test_a_budgeted_read_has_the_sketch_of_a_whole_one(root: Path) -> None:
    whole = sketched(FolderSource(root), 0)
    with HubServer(root) as hub:
        source = HubSource(hub.url, "hf_test")
        few = sketched(source, BUDGET)
        sent = hub.stats()["bytes_sent"]
    assert set(whole) == set(few) == {"o/short", "o/long"}
    for name, model in few.items():
        assert of(model) == of(whole[name])
        assert model.content_hash == whole[name].content_hash
        assert (model.parameters, model.architecture) == (whole[name].parameters, whole[name].architecture)
        assert model.bytes_read < 0.2 * model.bytes_total
        large = [s for s in model.sketches if s.elements > LARGE]
        assert len(large) == 6
        assert all(s.covered < s.elements and s.whole_hash is None for s in large)
    assert all(s.whole_hash is not None for model in whole.values() for s in model.sketches)
    assert sum(model.bytes_read for model in few.values()) < sent < 0.15 * sum(m.bytes_total for m in few.values())
    # A float32 and a bfloat16 copy are probed alike.
    short, long = few["o/short"], few["o/long"]
    assert list(map(without_dtype, short.sketches)) == list(map(without_dtype, long.sketches))


def test_a_smaller_budget_reads_fewer_tensors_and_the_same_of_each(root: Path) -> None:
    with HubServer(root) as hub:
        source = HubSource(hub.url, "hf_test", search="short")
        few, fewer = (sketched(source, budget)["o/short"] for budget in (BUDGET, BUDGET // 2))
        every = sketched(source, 0)["o/short"]
    assert 0 < len(fewer.sketches) < len(few.sketches) == len(every.sketches)
    assert set(of(fewer)) < set(of(few))
    assert of(every) == of(few)
    assert every.bytes_read >= every.bytes_total


def test_a_budget_for_all_reads_all_and_knows_the_hashes(root: Path) -> None:
    with HubServer(root) as hub:
        model = sketched(HubSource(hub.url, "hf_test", search="short"), 64 << 20)["o/short"]
    assert model.bytes_read == model.bytes_total
    assert all(sketch.whole_hash is not None for sketch in model.sketches)


def test_ranges_are_in_flight_together() -> None:
    """Each waits until another one has been asked for: one at a time would wait for ever."""
    together = Barrier(2)

    overlapping: list[int] = []

    def fetch(start: int, stop: int) -> memoryview:
        together.wait(10)
        overlapping.append(start)
        return memoryview(bytes(range(start, stop)))

    with ThreadPoolExecutor(2) as pool:
        reader = Ahead(BytesReader(b""), [(10, 20), (30, 40), (50, 60), (70, 80)], fetch, pool)
        got = bytearray(10)
        for start in (10, 30, 50, 70):
            reader.read_into(start, memoryview(got))
            assert got == bytes(range(start, start + 10))
    assert sorted(overlapping) == [10, 30, 50, 70]


@pytest.mark.parametrize("error", [SkipError("vanished", "gone"), RetryError("the network failed")])
def test_what_a_range_raises_its_reader_raises(error: Exception) -> None:
    def fetch(start: int, stop: int) -> memoryview:
        raise error

    with ThreadPoolExecutor(1) as pool:
        reader = Ahead(BytesReader(b""), [(10, 20), (30, 40)], fetch, pool)
        with pytest.raises(type(error), match=str(error)):
            reader.read_into(10, memoryview(bytearray(5)))
        reader.close()


def test_what_waits_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "WAITING", 25)
    asked: list[int] = []

    def fetch(start: int, stop: int) -> memoryview:
        asked.append(start)
        return memoryview(bytes(stop - start))

    with ThreadPoolExecutor(1) as pool:
        reader = Ahead(BytesReader(b""), [(10 * i, 10 * i + 10) for i in range(9)] + [(90, 190)], fetch, pool)
        for at in range(0, 190, 5):
            reader.read_into(at, memoryview(bytearray(5)))
            assert len(asked) <= at // 10 + 2
    assert asked == [*range(0, 90, 10), 90]


def test_a_hub_that_bears_one_request_at_a_time_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No range waits for another one while it holds the only turn."""
    monkeypatch.setattr(pace, "FIRST_AT_ONCE", 1.0)
    monkeypatch.setattr(pace, "MOST_AT_ONCE", 1)
    with HubServer(root) as hub:
        source = HubSource(hub.url, "hf_test")
        refs = [each for each in source.models() if isinstance(each, ModelRef)]
        with ThreadPoolExecutor(2) as pool:
            models = pool.map(lambda ref: sketch_model(source, ref, budget=BUDGET, form=FORM).model, refs)
            assert {model.name: len(model.sketches) for model in models} == {"o/long": 12, "o/short": 12}


RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)).map(lambda r: (r[0], r[0] + r[1])), max_size=12)


@given(RANGES, st.integers(0, 40), st.integers(1, 50))
def test_requests_hold_what_is_wanted_and_little_else(wanted: list[tuple[int, int]], gap: int, largest: int) -> None:
    found = requests_for(wanted, gap, largest)
    needed = {byte for start, stop in wanted for byte in range(start, stop)}
    asked = [byte for start, stop in found for byte in range(start, stop)]
    assert asked == sorted(set(asked))
    assert needed <= set(asked)
    assert all(0 < stop - start <= largest for start, stop in found)
    # Bytes that nobody wants lie in gaps.
    for byte in set(asked) - needed:
        before = max(b for b in needed if b < byte)
        assert min(b for b in needed if b > byte) - before - 1 <= gap


@given(RANGES, st.integers(0, 40), st.integers(1, 50))
def test_reading_ahead_is_reading(wanted: list[tuple[int, int]], gap: int, largest: int) -> None:
    content = bytes(i % 251 for i in range(400))
    with ThreadPoolExecutor(2) as pool:
        requests = requests_for(wanted, gap, largest)
        reader = Ahead(BytesReader(content), requests, lambda a, b: memoryview(content[a:b]), pool)
        for start, stop in sorted(wanted):
            got = bytearray(stop - start)
            reader.read_into(start, memoryview(got))
            assert got == content[start:stop]
        reader.close()


def test_a_body_whose_end_does_not_come_is_not_asked_for_again(tmp_path: Path) -> None:
    make_models(tmp_path)
    content = (tmp_path / "ada/alpha/model.safetensors").read_bytes()

    def unended() -> Response:
        headers = {"Content-Length": "100005", "Content-Range": f"bytes 0-99999/{len(content)}"}
        return Response(content[:100_000], 206, headers)

    faults = Once("resolve", unended)
    with HubServer(tmp_path, faults=faults) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            assert read(reader, 0, 90_000) == content[:90_000]
        assert len(faults.seen) == len(asked.slept) == 1


def test_a_connection_is_used_for_more_than_one_range(root: Path) -> None:
    ports = set()

    def note(request: Request) -> Response | None:
        assert request.client is not None
        ports.add(request.client.port)
        return None

    with HubServer(root, faults=note) as hub:
        asked = Asked(hub)
        model = asked.model("o/short")
        with asked.source.open(model, asked.weights(model)) as reader:
            for start in range(200_000, 1_000_000, 100_000):
                reader.prefetch(start, start + 10)
                read(reader, start, start + 10)
    assert len(ports) == 1
