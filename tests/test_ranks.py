"""Ranks of differences add up along a path of adapters, and say who is adjacent where distances cannot."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.distance import measure_pairs, normalised
from indexer.family import Family
from indexer.ranks import EACH, UNTOLD, bounded, rank_costs
from tests.grown import family_of, grow, parents_of
from tests.weights import Weights


def base(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {f"layers.{i}.v_proj.weight": (rng.standard_normal((128, 128)) * 0.05).astype(np.float32) for i in range(6)}


def lora(weights: Weights, seed: int, rank: int, size: float = 0.003) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        k: (w + size * rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 128))).astype(np.float32)
        for k, w in weights.items()
    }


def measured(family: Family) -> NDArray[np.float64]:
    a, b = np.triu_indices(len(family), 1)
    squared = np.zeros((len(family), len(family)))
    squared[a, b] = squared[b, a] = measure_pairs(family, normalised(family), a, b).squared
    return squared


def whole_rank(a: Weights, b: Weights) -> int:
    """The definition, on whole weights: the largest rank of a difference that stands clear of float32."""
    return max(int(np.linalg.matrix_rank(a[k].astype(float) - b[k], tol=1e-4)) for k in a)


def test_costs_are_the_ranks_of_the_whole_differences() -> None:
    root = base()
    models = {"root": root, "a": lora(root, 1, 4), "b": lora(root, 2, 8)}
    models["a-g"] = lora(models["a"], 3, 6)
    family = family_of(models)
    costs = rank_costs(family, measured(family))
    assert costs.shape == (4, 4)
    assert (costs == costs.T).all()
    for u, one in enumerate(family.names):
        for v, other in enumerate(family.names):
            if u != v:
                assert costs[u, v] == EACH * whole_rank(models[one], models[other])


def test_full_tunings_have_no_ranks() -> None:
    root = base()
    models = {"root": root, "a": grow(root, 1), "b": grow(root, 2)}
    models["a-g"] = grow(models["a"], 3)
    family = family_of(models)
    assert (rank_costs(family, measured(family)) == 0).all()


def test_a_long_step_from_a_child_that_hardly_moved() -> None:
    """By distance alone the grandparent is as good a parent: the child lies 400 times as far as its parent."""
    root = base()
    near = lora(root, 1, 8, 0.0005)
    models = {"root": root, "near": near, "far": lora(near, 2, 8, 0.01)}
    models |= {f"other{i}": lora(root, 10 + i, 8) for i in range(3)}
    family = family_of(models)
    costs = rank_costs(family, measured(family))
    at = {name: row for row, name in enumerate(family.names)}
    assert costs[at["near"], at["far"]] == EACH * 8
    assert costs[at["root"], at["far"]] == EACH * 16
    assert parents_of(family)["far"] == ("near", "lora")


def test_a_rank_beyond_the_projection_is_what_leads_there() -> None:
    root = base()
    models = {"root": root, "a": lora(root, 1, 20), "b": lora(root, 2, 20)}
    family = family_of(models)
    costs = rank_costs(family, measured(family))
    at = {name: row for row, name in enumerate(family.names)}
    assert costs[at["root"], at["a"]] == EACH * 20
    assert costs[at["a"], at["b"]] == EACH * 40


def test_a_base_finds_a_child_that_has_many_of_its_own() -> None:
    """Each has more children nearer than the other: neither is in the other's list of nearest."""
    root = base()
    popular = lora(root, 1, 4, 0.01)
    models = {"root": root, "popular": popular}
    models |= {f"of-root-{i}": lora(root, 100 + i, 4) for i in range(12)}
    models |= {f"of-popular-{i}": lora(popular, 200 + i, 4) for i in range(12)}
    family = family_of(models)
    squared = measured(family)
    at = {name: row for row, name in enumerate(family.names)}
    one, other = at["root"], at["popular"]
    assert (squared[one] < squared[one, other]).sum() > 12 < (squared[other] < squared[one, other]).sum()
    costs = rank_costs(family, squared)
    assert costs[one, other] == costs[other, one] == EACH * 4
    # Nobody measured these two: what leads from one to the other adds up.
    assert costs[at["of-root-1"], at["of-popular-1"]] == EACH * 12


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_bounds_are_never_below_the_ranks(seed: int, told: float) -> None:
    """Of adapters on a random tree, of which some ranks are told."""
    rng = np.random.default_rng(seed)
    parts = rng.integers(1, 9, 10)
    above = [int(rng.integers(i)) if i else -1 for i in range(10)]
    lines = [{0}]
    for i in range(1, 10):
        lines.append(lines[above[i]] | {i})
    ranks = np.array([[parts[list(a ^ b)].sum() for b in lines] for a in lines])
    seen = np.triu(rng.random((10, 10)) < told, 1)
    known = np.where((seen | seen.T) & (ranks < UNTOLD), ranks, UNTOLD)
    found = bounded(known)
    assert (found >= np.minimum(ranks, UNTOLD))[~np.eye(10, dtype=bool)].all()
    assert (found == found.T).all()
    assert (found[known < UNTOLD] == ranks[known < UNTOLD]).all()
    # What differs by too little to tell is no dearer than anything told of either.
    known[0, 1] = known[1, 0] = 0
    of_either = known[:, [0, 1]]
    assert bounded(known)[0, 1] == of_either[of_either > 0].min()
