"""Copies that were computed, not trained: quantised, cast, pruned, each hung on what it was made from."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.derived import derivation
from indexer.lattice import common_steps
from indexer.quantized import rounded_at_zero
from tests.grown import family_of, grow, parents_of
from tests.weights import Weights

Array = NDArray[np.float32]
Change = Callable[[Array], Array]


def start(seed: int) -> Weights:
    """Six layers, 96 x 128, whose rows differ in size."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.5, 2.0, (6, 96, 1))
    return {
        f"layers.{i}.weight": (rng.standard_normal((96, 128)) * 0.05 * sizes[i]).astype(np.float32) for i in range(6)
    }


def levels(w: Array, most: int) -> Array:
    """Whole multiples of one step a row, symmetric."""
    step = np.abs(w).max(axis=-1, keepdims=True) / most
    return np.asarray(np.round(w / step) * step, np.float32)


def tensor(w: Array) -> Array:
    return levels(w.reshape(1, -1), 127).reshape(w.shape)


def rows(w: Array) -> Array:
    return levels(w, 127)


def columns(w: Array) -> Array:
    return levels(w.T, 127).T


def groups(w: Array) -> Array:
    return levels(w.reshape(-1, 32), 7).reshape(w.shape)


def whole_zero(w: Array) -> Array:
    """256 levels from the least value to the largest of each row; zero is one of them."""
    step = (w.max(axis=1, keepdims=True) - w.min(axis=1, keepdims=True)) / 255
    return np.asarray(np.round(w / step) * step, np.float32)


def offset(w: Array) -> Array:
    """16 levels from the least value to the largest of each group of 64; zero is none of them."""
    v = w.reshape(-1, 64)
    low, high = v.min(axis=1, keepdims=True), v.max(axis=1, keepdims=True)
    step = (high - low) / 15
    return np.asarray(np.round((v - low) / step) * step + low, np.float32).reshape(w.shape)


def in_float16(change: Change) -> Change:
    return lambda w: change(w).astype(np.float16).astype(np.float32)


def in_bfloat16(change: Change) -> Change:
    return lambda w: change(w).astype(ml_dtypes.bfloat16).astype(np.float32)


def on_all(model: Weights, change: Change) -> Weights:
    return {name: change(w) for name, w in model.items()}


def pruned(model: Weights, share: float) -> Weights:
    """The smallest values of all tensors together, set to zero."""
    bound = np.quantile(np.abs(np.concatenate([w.ravel() for w in model.values()])), share)
    return {name: w * (np.abs(w) > bound) for name, w in model.items()}


QUANTISERS: dict[str, Change] = {
    "tensor": tensor,
    "rows": rows,
    "columns": columns,
    "groups": groups,
    "whole zero": whole_zero,
    "offset": offset,
    "groups in float16": in_float16(groups),
    "rows in float16": in_float16(rows),
    "groups in bfloat16": in_bfloat16(groups),
    "rows in bfloat16": in_bfloat16(rows),
}


@pytest.mark.parametrize("name", QUANTISERS)
def test_a_quantised_copy_hangs_on_its_source(name: str) -> None:
    """root -> child -> q, with the child's own child and sibling beside it.

    A step as large as training's makes no other parent.
    """
    root = start(1)
    child = grow(root, 2, 0.05)
    models = {"root": root, "child": child, "other": grow(root, 3, 0.05), "grand": grow(child, 4, 0.05)}
    models |= {"quantised": on_all(child, QUANTISERS[name])}
    assert parents_of(family_of(models))["quantised"] == ("child", "quantized")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("step", [1e-4, 1e-3, 1e-2, 0.1, 0.5])
def test_training_is_no_derivation(step: float, dtype: type) -> None:
    """Whatever the stored precision, and however small the steps."""
    root = on_all(start(1), lambda w: w.astype(dtype).astype(np.float32))
    child = on_all(grow(root, 2, step), lambda w: w.astype(dtype).astype(np.float32))
    family = family_of({"a": root, "b": child})
    assert derivation(family, 0, 1) is None
    assert derivation(family, 1, 0) is None


@pytest.mark.parametrize("name", QUANTISERS)
def test_what_was_trained_from_a_quantised_model_is_not_its_source(name: str) -> None:
    """Though it lies within half a step of it, and nearer than the source."""
    child = grow(start(1), 2, 0.1)
    copy = on_all(child, QUANTISERS[name])
    for step in (0.001, 0.005, 0.02, 0.1):
        family = family_of({"a": child, "q": copy, "tuned": grow(copy, 5, step)})
        assert derivation(family, 0, 1) == "quantized"
        assert derivation(family, 2, 1) is None


def test_a_pruned_model_that_was_trained_again_is_none() -> None:
    root = start(1)
    for share in (0.05, 0.1, 0.3):
        low = pruned(root, share)
        for step in (1e-3, 1e-2, 0.05, 0.1, 0.2):
            child = {name: w * (low[name] != 0) for name, w in grow(low, 2, step).items()}
            assert derivation(family_of({"a": root, "b": child}), 0, 1) is None


def test_levels_of_pruning_hang_on_one_source() -> None:
    """The values that are kept are equal: nobody trained between 30% and 60%."""
    root = start(1)
    child = grow(root, 2, 0.1)
    models = {"root": root, "child": child, **{f"p{s}": pruned(child, s / 100) for s in (10, 30, 60)}}
    models |= {"q30": on_all(pruned(child, 0.3), rows), "q": on_all(child, groups), "h60": pruned(child, 0.6)}
    models["h60"] = on_all(models["h60"], lambda w: w.astype(np.float16).astype(np.float32))
    models["pq"] = pruned(models["q"], 0.5)
    found = parents_of(family_of(models))
    for level in ("p10", "p30", "p60"):
        assert found[level] == ("child", "pruned"), level
    assert found["h60"] == ("p60", "cast")
    assert found["q"] == ("child", "quantized")  # whose zeros hold all those of p10
    assert found["q30"] == ("p30", "quantized")
    assert found["pq"] == ("q", "pruned")


def test_many_copies_do_not_hide_their_source() -> None:
    """All of them lie as far from a pruned copy as the source: more than are tried of the nearest."""
    child = grow(start(1), 2, 0.1)
    models = {"root": start(1), "child": child, "p50": pruned(child, 0.5), "p70": pruned(child, 0.7)}
    for name, change in QUANTISERS.items():
        models[f"a-{name}"] = on_all(child, change)
        models[f"b-{name}"] = pruned(models[f"a-{name}"], 0.4)
    found = parents_of(family_of(models))
    assert found["p50"] == found["p70"] == ("child", "pruned")
    for name in ("tensor", "rows", "groups", "whole zero"):
        assert found[f"a-{name}"] == ("child", "quantized")
        assert found[f"b-{name}"] == (f"a-{name}", "pruned")


def test_quantised_and_pruned_with_nothing_between() -> None:
    root = start(1)
    models = {"root": root, "child": grow(root, 2, 0.1)}
    models["both"] = on_all(pruned(models["child"], 0.5), rows)
    assert parents_of(family_of(models))["both"] == ("child", "quantized")


def test_casts_of_derived_models_and_copies_of_them() -> None:
    root = start(1)
    child = grow(root, 2, 0.1)
    models = {"root": root, "child": child, "q": on_all(child, rows), "half": {}, "q-half": {}, "q-copy": {}}
    models["half"] = {name: w.astype(np.float16) for name, w in child.items()}
    models["q-half"] = {name: w.astype(np.float16) for name, w in models["q"].items()}
    models["q-copy"] = dict(models["q"])
    found = parents_of(family_of(models))
    assert found["half"] == ("child", "cast")
    assert found["q"] == ("child", "quantized")
    assert found["q-half"] == ("q", "cast")
    assert found["q-copy"] == ("q", "copy")


def test_equal_weights_and_trained_biases_are_no_cast() -> None:
    root = start(1) | {f"layers.{i}.bias": np.full(96, 0.1 + i, np.float32) for i in range(6)}
    moved = {name: w + np.float32(0.03) if name.endswith("bias") else w for name, w in root.items()}
    rounded = on_all(moved, lambda w: w.astype(np.float16).astype(np.float32))
    assert derivation(family_of({"a": root, "b": rounded}), 0, 1) is None
    assert derivation(family_of({"a": moved, "b": rounded}), 0, 1) == "cast"


def largest_step(one: float, other: float, tolerance: float, most: int) -> float:
    """The definition: the first p for which some q / p is the ratio, by trial."""
    high, low = max(abs(one), abs(other)), min(abs(one), abs(other))
    for p in range(1, most + 1):
        for q in range(1, p + 1):
            if abs(low / high - q / p) <= tolerance * low / high:
                return high / p
    return float("nan")


@settings(max_examples=60, deadline=None)
@given(st.integers(-255, 255), st.integers(-255, 255), st.floats(1e-4, 1e2))
def test_multiples_of_a_step_have_one(m: int, n: int, step: float) -> None:
    one, other = np.float64(np.float32(m * step)), np.float64(np.float32(n * step))
    error = 2.0**-24 * np.abs(np.array([[one], [other]]))
    (found,) = common_steps(np.array([one]), np.array([other]), error)
    if not m or not n:
        assert np.isnan(found)
        return
    exact = Fraction(
        max(abs(m), abs(n)),
        Fraction(abs(m), abs(n)).numerator if abs(m) > abs(n) else Fraction(abs(n), abs(m)).numerator,
    )
    assert found == pytest.approx(float(exact) * step, rel=1e-5)
    assert found == pytest.approx(largest_step(one, other, 2.0**-23, 255), rel=1e-9)


def test_values_without_a_step_rarely_have_one() -> None:
    rng = np.random.default_rng(0)
    for precision, most in ((2.0**-24, 0.01), (2.0**-11, 0.2), (2.0**-8, 0.2)):
        values = rng.standard_normal((2, 4000))
        assert np.isfinite(common_steps(values[0], values[1], precision * np.abs(values))).mean() <= most


def test_what_became_zero_tells_rounding_from_pruning() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000)
    where = np.zeros(x.size, np.int64)
    step = 0.3
    assert rounded_at_zero(x, np.round(x / step) * step, where)
    for size in (0.01, 0.05, 0.1, 0.15, 0.3):
        trained = (x + size * rng.standard_normal(x.size)) * (np.abs(x) > step / 2)
        assert not rounded_at_zero(x, trained, where)
