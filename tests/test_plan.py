"""The probe plan and the sample positions: functions of names and shapes alone."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crawl.architecture import backbone
from crawl.plan import make_plan, within_budget
from store.format import SketchFormat
from store.positions import sample_positions

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


@given(st.integers(1, 200_000), st.integers(1, 500), st.integers(1, 500), st.integers(0, 10))
def test_positions_are_distinct_in_range_and_nested(elements: int, a: int, b: int, seed: int) -> None:
    few, many = (sample_positions(elements, count, seed) for count in sorted((a, b)))
    assert many.size == min(elements, max(a, b))
    assert np.unique(many).size == many.size
    assert many.min() >= 0
    assert many.max() < elements
    np.testing.assert_array_equal(few, many[: few.size])


def test_positions_are_spread_evenly() -> None:
    counts = np.histogram(sample_positions(10_000_000, 20_000, 1), bins=20, range=(0, 10_000_000))[0]
    assert (np.abs(counts - 1000) < 5 * math.sqrt(1000)).all()


def test_positions_never_change() -> None:
    """They are part of the format: another answer here makes every stored sketch worthless."""
    assert sample_positions(1000, 5, FORM.seed).tolist() == POSITIONS_OF_1000
    assert sample_positions(10**9, 5, FORM.seed).tolist() == POSITIONS_OF_1E9


POSITIONS_OF_1000 = [944, 955, 177, 854, 835]
POSITIONS_OF_1E9 = [488593764, 119672243, 207975473, 148844607, 355902442]


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
