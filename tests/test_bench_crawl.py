"""The Hub of real-size models: its bytes are the same however they are asked for, and a budget finds the same trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.crawl import all_bytes, over_http
from benchmarks.remote.models import large_family, large_truth, llama_shapes, small_family
from benchmarks.remote.server import serving

pytestmark = pytest.mark.usefixtures("own_session")

SHAPES = llama_shapes(2, 1152, 3096, 500)
RING = 1_000_003


@given(st.integers(0, 60_000_000), st.integers(0, 5000))
def test_any_range_is_that_of_the_file(start: int, size: int) -> None:
    file = FILES["model-00001-of-00001.safetensors"]
    start = min(start, file.size)
    stop = min(start + size, file.size)
    middle = (start + stop) // 2
    assert file.read(start, stop) == file.read(start, middle) + file.read(middle, stop)
    assert len(file.read(start, stop)) == stop - start


FILES = large_family({"layers.0.a.weight": (700, 800), "layers.1.a.weight": (900, 800)}, ring=1009)[0].files


def test_a_budget_finds_the_trees_that_all_bytes_tell(tmp_path: Path) -> None:
    with serving(large_family, SHAPES, 0, RING) as hub:
        few = over_http(hub.url, tmp_path / "few", 16 << 20, True)
        counts = hub.counts()
    whole = all_bytes(SHAPES, 0, tmp_path / "whole", RING)
    assert few.edges == whole.edges
    assert {child: parent for child, (parent, _) in few.edges.items()} == large_truth()
    assert few.bytes_received == counts["bytes_sent"] < 0.35 * few.bytes_total == 0.35 * whole.bytes_total
    assert few.requests == counts["requests"]
    assert (few.models, few.skipped) == (8, 0)


def test_a_small_model_costs_two_requests(tmp_path: Path) -> None:
    with serving(small_family, 10, 0) as hub:
        small = over_http(hub.url, tmp_path / "small", 64 << 20, False)
    assert (small.models, small.skipped, small.requests) == (10, 0, 21)
