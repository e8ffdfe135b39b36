"""Distances, correlations and ranks from sketches beside those of whole weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from indexer.components import are_related, find_components
from indexer.distance import measure_pairs, normalised
from indexer.family import Family
from indexer.rank import difference_rank
from indexer.solve import split
from tests.grown import family_of, grow, start
from tests.weights import Weights


def squared_definition(a: Weights, b: Weights) -> float:
    return sum(float(((a[name].astype(np.float64) - b[name]) ** 2).sum()) for name in a)


def correlation_definition(a: Weights, b: Weights) -> float:
    weights = np.array([np.sqrt(w.size) for w in a.values()])
    each = np.array([np.corrcoef(a[name].reshape(-1), b[name].reshape(-1))[0, 1] for name in a])
    return float(weights @ each / weights.sum())


@pytest.fixture(scope="module")
def models() -> dict[str, Weights]:
    root = start(0)
    child = grow(root, 1, 0.05)
    return {
        "a": root,
        "b": child,
        "c": grow(child, 2, 0.02),
        "d": start(9),
        "e": {k: w.copy() for k, w in root.items()},
    }


@pytest.fixture(scope="module")
def family(models: dict[str, Weights]) -> Family:
    return family_of(models)


def test_distance_and_correlation_are_those_of_the_weights(family: Family, models: dict[str, Weights]) -> None:
    a, b = np.triu_indices(len(family), 1)
    pairs = measure_pairs(family, normalised(family), a, b)
    for at, (i, j) in enumerate(zip(a, b, strict=True)):
        u, v = models[family.names[i]], models[family.names[j]]
        values = sum(w.size for w in u.values())
        assert pairs.squared[at] == pytest.approx(squared_definition(u, v), rel=0.03, abs=1e-12)
        assert pairs.distance[at] == pytest.approx(np.sqrt(squared_definition(u, v) / values), rel=0.02, abs=1e-12)
        assert pairs.correlation[at] == pytest.approx(correlation_definition(u, v), abs=0.03)
        assert pairs.shared[at] == pytest.approx(1.0)
    same = pairs.equal[(a == 0) & (b == 4)]
    assert same == pytest.approx([1.0])


def test_squared_distances_add_up_along_a_line_of_descent(family: Family) -> None:
    """The tree metric: d2(grandparent, grandchild) = d2(grandparent, parent) + d2(parent, grandchild)."""
    pairs = measure_pairs(family, normalised(family), np.array([0, 0, 1]), np.array([2, 1, 2]))
    assert pairs.squared[0] == pytest.approx(pairs.squared[1] + pairs.squared[2], rel=0.02)


def test_a_pair_is_measured_alike_in_any_company(family: Family) -> None:
    """Pair-local: what else is in the family changes no bit."""
    alone = family.take([1, 2])
    one = measure_pairs(alone, normalised(alone), np.array([0]), np.array([1]))
    other = measure_pairs(family, normalised(family), np.array([1]), np.array([2]))
    assert (one.squared, one.distance) == (other.squared, other.distance)
    assert one.correlation == pytest.approx(other.correlation, abs=1e-12)


def test_a_tensor_that_one_model_lacks_is_left_out(models: dict[str, Weights]) -> None:
    short = {name: w for name, w in models["b"].items() if name != "layers.0.weight"}
    family = family_of({"a": models["a"], "b": models["b"]})
    part = family_of({"a": models["a"], "b": models["b"], "s": short})
    rows = normalised(part)
    pair = measure_pairs(part, rows, np.array([0]), np.array([2]))
    whole = measure_pairs(family, normalised(family), np.array([0]), np.array([1]))
    assert 0.5 < pair.shared[0] < 1.0
    assert pair.squared[0] == pytest.approx(whole.squared[0], rel=0.3)
    assert pair.correlation[0] == pytest.approx(whole.correlation[0], abs=0.02)


def test_kernel_positions_are_no_kinship() -> None:
    """Two convolutions trained apart both have more weight in the middle of the kernel."""
    bump = np.outer([0.2, 1, 0.2], [0.2, 1, 0.2])
    models = {
        f"m{seed}": {
            "conv.weight": (0.5 * bump + 0.1 * np.random.default_rng(seed).standard_normal((64, 32, 3, 3))).astype(
                np.float32
            ),
            "conv2.weight": (
                0.5 * bump + 0.1 * np.random.default_rng(seed + 50).standard_normal((64, 64, 3, 3))
            ).astype(np.float32),
        }
        for seed in range(3)
    }
    family = family_of(models)
    pairs = measure_pairs(family, normalised(family), np.array([0, 0, 1]), np.array([1, 2, 2]))
    assert correlation_definition(models["m0"], models["m1"]) > 0.5
    assert np.abs(pairs.correlation).max() < 0.05
    assert find_components(family).tolist() == [0, 1, 2]


def test_components_are_families(family: Family) -> None:
    assert find_components(family).tolist() == [0, 0, 0, 1, 0]


def test_a_distant_relative_is_found_behind_a_crowd() -> None:
    """More near relatives than the shortlist holds, and one far one that none of them lists."""
    root = start(3, layers=2, width=40)
    models = {f"near-{i:03d}": grow(root, i, 0.01) for i in range(80)}
    models["zz-far"] = grow(root, 999, 1.2)
    models["zz-stranger"] = start(77, layers=2, width=40)
    labels = find_components(family_of(models))
    assert labels[:81].tolist() == [0] * 81
    assert labels[81] == 1


def test_components_are_what_all_pairs_say() -> None:
    """Crowds, chains and strangers; the definition looks at every pair."""
    models: dict[str, Weights] = {}
    for seed, size, step in ((1, 75, 0.02), (2, 40, 0.9), (3, 1, 0.0), (4, 6, 1.4)):
        root = start(seed, layers=2, width=24)
        for i in range(size):
            models[f"m-{(31 * len(models)) % 1009:04d}-{seed}-{i}"] = grow(root, 100 * seed + i, step) if i else root
    family = family_of(dict(sorted(models.items())))
    a, b = np.triu_indices(len(family), 1)
    related = are_related(family, a, b)
    wanted = connected_components(coo_matrix((related[related], (a[related], b[related])), (len(family),) * 2))[1]
    labels = find_components(family)
    assert len(set(zip(wanted.tolist(), labels.tolist(), strict=True))) == len(set(labels.tolist()))
    assert labels.max() == wanted.max() >= 3


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rank_of_a_merged_lora(rank: int, dtype: str) -> None:
    rng = np.random.default_rng(rank)
    base = {f"layers.{i}.v_proj.weight": (rng.standard_normal((128, 128)) * 0.05).astype(dtype) for i in range(4)}
    tuned = {
        name: (w + 0.02 * rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 128))).astype(dtype)
        for name, w in base.items()
    }
    full = {name: (w + 0.01 * rng.standard_normal(w.shape)).astype(dtype) for name, w in base.items()}
    family = family_of({"base": base, "full": full, "lora": tuned})
    assert difference_rank(family, 0, 2) == (rank, 32)
    assert difference_rank(family, 0, 1) == (32, 32)
    assert difference_rank(family, 0, 0) is None


def test_strangers_with_one_front_end_are_strangers() -> None:
    """A basis that nobody trains is the same in all of them."""
    basis = np.random.default_rng(0).standard_normal((130, 1, 128)).astype(np.float32)
    alone = {"a": start(1, 2, 24), "b": start(2, 2, 24)}
    alone["a-child"] = grow(alone["a"], 3)
    for name, together in (("stft.forward_basis_buffer", [{0, 1}, {2}]), ("conv.weight", [{0, 1, 2}])):
        family = family_of({model: weights | {name: basis} for model, weights in alone.items()})
        assert family.names == ("a", "a-child", "b")
        assert sorted(({*rows.tolist()} for rows in split(family)), key=min) == together
