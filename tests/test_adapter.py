"""LoRA told from training: by a rank that explains the difference, or by what adapters leave alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.adapter import adapter_evidence, adapter_shaped, explained_rank, rounding_energy
from indexer.relation import trained_relation
from tests.grown import family_of, grow
from tests.weights import Weights

WIDTH = 96
KINDS = ("query", "key", "value", "output")


def blocks(seed: int, biases: bool = True) -> Weights:
    """Three blocks of four matrices, with biases, and a norm each."""
    rng = np.random.default_rng(seed)
    model = {}
    for i in range(3):
        for kind in KINDS:
            name = f"layer.{i}.attention.{kind}"
            model[f"{name}.weight"] = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) * np.float32(0.05)
            if biases:
                model[f"{name}.bias"] = rng.standard_normal(WIDTH).astype(np.float32) * np.float32(0.02)
        model[f"layer.{i}.norm.weight"] = np.ones(WIDTH, np.float32) + rng.standard_normal(WIDTH).astype(np.float32) / 9
    return model


def adapted(
    parent: Weights, seed: int, rank: int, kinds: tuple[str, ...] = ("query", "value"), size: float = 0.01
) -> Weights:
    """The parent plus a product of two thin matrices on every matrix of some kinds, summed in float32."""
    rng = np.random.default_rng(seed)
    child = dict(parent)
    for name, w in parent.items():
        if name.endswith(tuple(f"{kind}.weight" for kind in kinds)):
            update = rng.standard_normal((w.shape[0], rank)) @ rng.standard_normal((rank, w.shape[1]))
            child[name] = w + (size / np.sqrt(rank) * update).astype(np.float32)
    return child


def only(parent: Weights, child: Weights, *endings: str) -> Weights:
    """The parent with some of its child's tensors."""
    return parent | {name: w for name, w in child.items() if name.endswith(endings)}


def bfloat16(model: Weights) -> Weights:
    return {name: w.astype(ml_dtypes.bfloat16).astype(np.float32) for name, w in model.items()}


def told(parent: Weights, child: Weights) -> tuple[str, dict[str, float]]:
    relation, evidence = trained_relation(family_of({"a": parent, "b": child}), 0, 1)
    return relation, {e.cue: e.value for e in evidence}


def energy_by_definition(w: np.ndarray, rounded: np.ndarray) -> float:
    return float(((w - rounded) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 4, 16, 24])
def test_the_rank_of_an_adapter(rank: int) -> None:
    root = blocks(1)
    assert told(root, adapted(root, 2, rank)) == ("lora", {"rank": rank})


@pytest.mark.parametrize("rank", [25, 32, 64])
def test_a_rank_that_fills_the_projection(rank: int) -> None:
    """k is 32: what adapters leave alone still says it, and of the rank only a bound is told."""
    root = blocks(1)
    relation, cues = told(root, adapted(root, 2, rank))
    assert relation == "lora"
    assert 0 < cues["rank_at_least"] <= rank


@pytest.mark.parametrize("rank", [2, 8])
def test_an_adapter_in_bfloat16(rank: int) -> None:
    """Rounding makes the difference full: where the rank stands clear of that, it explains the rest."""
    root = bfloat16(blocks(1))
    child = bfloat16(adapted(root, 2, rank, size=0.05))
    assert told(root, child) == ("lora", {"rank": rank})


@pytest.mark.parametrize("step", [1e-4, 1e-3, 3e-3, 1e-2, 0.1])
@pytest.mark.parametrize("falling", [0.0, 0.5, 1.0, 2.0])
def test_training_is_no_adapter_however_it_is_rounded(step: float, falling: float) -> None:
    """All matrices move by full-rank updates whose singular values fall as i^-falling, most of them below rounding."""
    root = bfloat16(blocks(1))
    rng = np.random.default_rng(5)
    child = dict(root)
    for name, w in root.items():
        if w.ndim == 2:
            u, s, v = np.linalg.svd(rng.standard_normal(w.shape))
            s = np.arange(1, len(s) + 1) ** -falling
            child[name] = w + (step * 0.05 * WIDTH / np.linalg.norm(s) * (u * s) @ v).astype(np.float32)
        else:
            child[name] = w + (0.05 * step * rng.standard_normal(w.shape)).astype(np.float32)
    assert told(root, bfloat16(child))[0] == "finetune"


def test_training_attention_alone_is_partial() -> None:
    root = blocks(1)
    child = grow(root, 3)
    with_biases = only(root, child, "query.weight", "query.bias", "value.weight", "value.bias")
    assert told(root, with_biases)[0] == "partial"
    # Not the same kinds in every block, as a choice of layers by what they have learned leaves it.
    mixed = only(root, child, "layer.0.attention.query.weight", "layer.2.attention.output.weight")
    assert told(root, mixed)[0] == "partial"
    # The last block, all of it.
    assert told(root, root | {n: w for n, w in child.items() if n.startswith("layer.2.")})[0] == "partial"
    # Without biases nothing tells a matrix that was trained from one with an adapter of full rank, but habit.
    bare, bare_child = blocks(1, biases=False), grow(blocks(1, biases=False), 3)
    assert told(bare, only(bare, bare_child, "key.weight", "output.weight"))[0] == "partial"
    assert told(bare, only(bare, bare_child, "query.weight", "value.weight"))[0] == "lora"


def test_all_matrices_of_every_block_are_no_shape_of_an_adapter() -> None:
    """In bfloat16, small steps leave norms and large biases as they were: that is still training."""
    root = blocks(1)
    family = family_of({"a": root, "b": only(root, grow(root, 3), *(f"{kind}.weight" for kind in KINDS))})
    assert not adapter_shaped(family, 0, 1)
    assert adapter_evidence(family, 0, 0) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(1e-9, 1e-1), st.sampled_from([16, 32]))
def test_a_rank_leaves_out_nothing_but_noise(seed: int, rank: int, noise: float, k: int) -> None:
    """Never more than the true rank; what it leaves out of the clean matrix is no more than noise can hide."""
    rng = np.random.default_rng(seed)
    clean = rng.standard_normal((k, rank)) @ rng.standard_normal((rank, k)) / np.sqrt(rank)
    dirty = clean + noise * rng.standard_normal((k, k))
    found, least = explained_rank(dirty.reshape(-1), noise**2 * k * k)
    if found is not None:
        hidden = np.linalg.svd(clean, compute_uv=False)[found:rank]
        assert found <= rank
        assert (hidden**2).sum() <= 10 * noise**2 * k * k
    assert least <= min(rank, k)
    if noise <= 1e-7 and rank <= k // 2:
        assert found == rank


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_rounding_energy_is_what_rounding_leaves(dtype: type) -> None:
    w = np.random.default_rng(0).standard_normal(20_000) * 0.05
    rounded = w.astype(dtype).astype(np.float64)
    name, precision = {np.float16: ("F16", 1), ml_dtypes.bfloat16: ("BF16", 2)}[dtype]
    measured = rounding_energy(rounded[:600], name, precision, w.size)
    assert measured == pytest.approx(energy_by_definition(w, rounded), rel=0.15)
    assert rounding_energy(rounded[:600], "F32", precision, w.size) == measured
