"""The probe plan and the sample positions: functions of names and shapes alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.architecture import backbone
from crawl.plan import Plan, make_plan, within_budget
from store.format import SketchFormat
from store.positions import LARGE, WINDOW, sample_positions, window_start

FORM = SketchFormat()


Shapes = dict[str, tuple[int, ...]]


def bert(layers: int = 4, width: int = 256, vocabulary: int = 1000, prefix: str = "bert.") -> Shapes:
    shapes: Shapes = {f"{prefix}embeddings.word_embeddings.weight": (vocabulary, width)}
    for i in range(layers):
        block = f"{prefix}encoder.layer.{i}."
        for part in ("query", "key", "value"):
            shapes[f"{block}attention.self.{part}.weight"] = (width, width)
            shapes[f"{block}attention.self.{part}.bias"] = (width,)
        shapes[f"{block}intermediate.dense.weight"] = (4 * width, width)
        shapes[f"{block}output.dense.weight"] = (width, 4 * width)
    return shapes


@given(
    st.integers(1, 200_000) | st.integers(LARGE - 1, 2**40),
    st.integers(1, 500),
    st.integers(1, 500),
    st.integers(0, 10),
)
def test_positions_are_distinct_in_range_and_nested(elements: int, a: int, b: int, seed: int) -> None:
    few, many = (sample_positions(elements, count, seed) for count in sorted((a, b)))
    assert many.size == min(elements, max(a, b))
    assert np.unique(many).size == many.size
    assert many.min() >= 0
    assert many.max() < elements
    np.testing.assert_array_equal(few, many[: few.size])


def test_positions_are_spread_evenly() -> None:
    counts = np.histogram(sample_positions(1_000_000, 20_000, 1), bins=20, range=(0, 1_000_000))[0]
    assert (np.abs(counts - 1000) < 5 * math.sqrt(1000)).all()


def test_positions_never_change() -> None:
    """They are part of the format: another answer here makes every stored sketch worthless."""
    assert sample_positions(1000, 5, FORM.seed).tolist() == POSITIONS_OF_1000
    assert sample_positions(10**9, 5, FORM.seed).tolist() == POSITIONS_OF_1E9


POSITIONS_OF_1000 = [944, 955, 177, 854, 835]
POSITIONS_OF_1E9 = [94147336, 94147837, 94153884, 94159601, 94155883]


def test_a_plan_stays_within_its_sizes() -> None:
    plan = make_plan(bert(layers=24, width=1024), FORM)
    assert 0.95 * FORM.samples < sum(t.samples for t in plan.tensors.values()) <= FORM.samples
    assert sum(t.outliers for t in plan.tensors.values()) <= FORM.outliers
    projected = [name for name, t in plan.tensors.items() if t.projection]
    assert len(projected) == FORM.projections
    assert any("value" in name for name in projected)
    assert any("query" in name for name in projected)


def test_a_small_model_is_kept_whole() -> None:
    plan = make_plan({"a.weight": (20, 30), "a.bias": (20,)}, FORM)
    assert [t.samples for t in plan.tensors.values()] == [600, 20]


def test_head_and_vocabulary_do_not_move_the_backbones_samples() -> None:
    base, child = bert(), bert(vocabulary=1016) | {"classifier.weight": (5, 256)}
    a, b = make_plan(base, FORM).tensors, make_plan(child, FORM).tensors
    assert all(a[name] == b[name] for name in backbone(base))


@given(st.integers(1, 40_000_000))
def test_a_budget_is_kept(budget: int) -> None:
    shapes = bert()
    sizes = {name: 4 * math.prod(shape) for name, shape in shapes.items()}
    chosen = within_budget(sizes, shapes, budget)
    assert sum(sizes[name] for name in chosen) <= budget


def test_a_budget_is_spent_over_depth_and_roles() -> None:
    shapes = bert(layers=8)
    sizes = {name: 4 * math.prod(shape) for name, shape in shapes.items()}
    chosen = within_budget(sizes, shapes, sum(sizes.values()) // 3)
    assert {name.split(".layer.")[1].split(".", 1)[1] for name in chosen if ".layer." in name} == {
        name.split(".layer.")[1].split(".", 1)[1] for name in shapes if ".layer." in name
    }
    assert len({name.split(".")[3] for name in chosen if ".layer." in name}) >= 3
    assert not any("embeddings" in name for name in chosen)
    assert within_budget(sizes, shapes, 0) == set(shapes)


def llama(layers: int, width: int, hidden: int, keys: int, vocabulary: int = 32_000) -> Shapes:
    shapes: Shapes = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (vocabulary, width))
    for i in range(layers):
        block = f"layers.{i}."
        shapes |= {f"{block}self_attn.{part}_proj.weight": (width, width) for part in "qo"}
        shapes |= {f"{block}self_attn.{part}_proj.weight": (keys, width) for part in "kv"}
        shapes |= {f"{block}mlp.{part}_proj.weight": (hidden, width) for part in ("gate", "up")}
        shapes |= {f"{block}mlp.down_proj.weight": (width, hidden), f"{block}input_layernorm.weight": (width,)}
    return shapes


def costs(shapes: Shapes, plan: Plan) -> dict[str, int]:
    return {name: 4 * plan.tensors[name].covered(math.prod(shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "sizes", [(32, 4096, 11008, 4096), (32, 4096, 14336, 1024), (40, 5120, 13824, 5120), (80, 8192, 28672, 1024)]
)
def test_a_large_model_is_probed_in_every_tensor_within_the_default_budget(sizes: tuple[int, int, int, int]) -> None:
    shapes = llama(*sizes)
    plan = make_plan(shapes, FORM)
    assert within_budget(costs(shapes, plan), shapes, 64 << 20) == set(shapes)
    few = within_budget(costs(shapes, plan), shapes, 16 << 20)
    assert {name.split(".", 2)[2] for name in few if "layers" in name} == {
        name.split(".", 2)[2] for name in shapes if "layers" in name
    }


def test_no_projection_of_more_columns_than_there_is_room_for() -> None:
    """64 numbers in float64 are kept of each column."""
    shapes: dict[str, tuple[int, ...]] = {"wide": (200, 1 << 20), "high": (1 << 20, 200)}
    plan = make_plan(shapes, FORM)
    assert {name: tensor.projection > 0 for name, tensor in plan.tensors.items()} == {"wide": False, "high": True}


def test_a_run_holds_the_samples_and_whole_rows_for_a_projection() -> None:
    for sizes in ((2, 1500, 3000, 800), (4, 2048, 8192, 640), (1, 131_073, 140, 130)):
        shapes = llama(*sizes)
        for name, tensor in make_plan(shapes, FORM).tensors.items():
            elements = math.prod(shapes[name])
            assert (tensor.run is not None) is (elements > LARGE)
            if tensor.run is None:
                continue
            start, stop = tensor.run
            assert 0 <= start < stop <= elements
            assert stop - start >= WINDOW
            positions = sample_positions(elements, tensor.samples, FORM.seed)
            assert positions.size == tensor.samples
            assert start <= positions.min() <= positions.max() < stop
            assert start <= window_start(elements, FORM.seed)
            if tensor.projection:
                assert start % shapes[name][1] == stop % shapes[name][1] == 0
                assert (stop - start) // shapes[name][1] >= 2 * FORM.projection


def test_heads_and_vocabulary_move_no_run_of_the_backbone() -> None:
    one, two = llama(2, 1500, 3000, 800), llama(2, 1500, 3000, 800, vocabulary=50_000)
    a, b = make_plan(one, FORM).tensors, make_plan(two, FORM).tensors
    assert all(a[name] == b[name] for name in backbone(one))


def test_a_model_without_large_tensors_is_read_as_ever() -> None:
    assert all(tensor.run is None for tensor in make_plan(bert(layers=24, width=512), FORM).tensors.values())
