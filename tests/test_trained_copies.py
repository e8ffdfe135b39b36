"""Training that began from a copy: the tree goes through it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.trained_copies import held_share
from tests.grown import family_of, grow, parents_of
from tests.test_adapter import adapted, blocks
from tests.test_derived import QUANTISERS, on_all, pruned, start
from tests.weights import Weights


def masked(model: Weights, like: Weights) -> Weights:
    return {name: w * (like[name] != 0) for name, w in model.items()}


def bfloat16(model: Weights) -> Weights:
    return on_all(model, lambda w: w.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("name", ["tensor", "rows", "groups", "offset"])
def test_trained_from_a_quantised_copy(name: str) -> None:
    """root -> child -> q -> tuned, and root -> child -> other beside it."""
    root = start(1)
    child = grow(root, 2, 0.1)
    copy = on_all(child, QUANTISERS[name])
    models = {"root": root, "child": child, "q": copy, "tuned": grow(copy, 5, 0.05), "other": grow(child, 6, 0.05)}
    found = parents_of(family_of(models))
    assert found["q"] == ("child", "quantized")
    assert found["tuned"] == ("q", "finetune")
    assert found["other"] == ("child", "finetune")


def test_trained_from_a_pruned_copy_with_its_zeros_kept_or_not() -> None:
    root = start(1)
    child = grow(root, 2, 0.1)
    low, high = pruned(child, 0.3), pruned(child, 0.6)
    models = {"root": root, "child": child, "p30": low, "p60": high, "other": grow(child, 6, 0.1, decay=0.05)}
    models |= {"kept": masked(grow(low, 5, 0.05), low), "free": grow(high, 7, 0.05), "more": grow(child, 8, 0.02)}
    found = parents_of(family_of(models))
    assert found["kept"][0] == "p30"
    assert found["free"] == ("p60", "finetune")
    assert found["other"] == ("child", "finetune")
    assert found["more"] == ("child", "finetune")


def test_an_adapter_on_a_quantised_base() -> None:
    """Merged into the base as it was rounded: only from there the difference has a low rank."""
    root = blocks(1)
    copy = {name: QUANTISERS["groups"](w) if w.ndim == 2 else w for name, w in root.items()}
    models = {"root": root, "q": copy, "tuned": adapted(copy, 3, 4), "other": grow(root, 4, 0.05)}
    found = parents_of(family_of(models))
    assert found["q"] == ("root", "quantized")
    assert found["tuned"] == ("q", "lora")


def test_what_was_stored_shortly_is_no_child_of_the_cast() -> None:
    """All bfloat16 children of a float32 parent hold its rounding: that says nothing of the cast copy."""
    root = start(1)
    models = {"root": root, "cast": bfloat16(root)}
    models |= {f"c{i}": bfloat16(grow(root, 2 + i, 1e-3)) for i in range(3)}
    found = parents_of(family_of(models))
    assert found["cast"] == ("root", "cast")
    assert all(found[f"c{i}"] == ("root", "finetune") for i in range(3))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.floats(0.01, 3.0))
def test_the_share_and_its_error(seed: int, share: float, size: float) -> None:
    """The share is found within five of its own standard errors, whatever the training's size."""
    rng = np.random.default_rng(seed)
    source, made = rng.standard_normal((2, 5000))
    child = source + share * made + size * rng.standard_normal(5000)
    weights = rng.uniform(0.1, 10.0, 5000)
    found, error = held_share(source, source + made, child, weights)
    assert abs(found - share) <= 5 * error
    assert error <= 0.1 * size
