"""Who is nearest to pruned models in what they kept: beside the definition, and kept from one update to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.family import DIMENSIONS, Family
from indexer.memo import Memo
from indexer.pruned_lists import pruned_pairs
from indexer.vicinity import coordinates, seen_from
from tests.grown import family_of, grow, start
from tests.weights import Weights

K = 5
Ints = NDArray[np.int64]


def pruned_crowd(seed: int, n: int = 24) -> dict[str, Weights]:
    """A tree of grown models, each third with its least weights taken away."""
    rng = np.random.default_rng(seed)
    whole = [start(seed)]
    models: dict[str, Weights] = {}
    for i in range(n):
        whole.append(grow(whole[int(rng.integers(0, len(whole)))], seed + i, 0.1))
        share = float(rng.uniform(0.1, 0.6)) if i % 3 == 0 else 0.0
        models[f"m{i:02}"] = {
            name: np.where(np.abs(w) < np.quantile(np.abs(w), share), 0, w).astype("f4")
            for name, w in whole[-1].items()
        }
    return models


def zeroed(family: Family) -> NDArray[np.int64]:
    return np.flatnonzero(family.zeros > 0.02)


def told(family: Family) -> bytes:
    return family.content_keys[seen_from(family)].tobytes()


def names_of(family: Family) -> Callable[[Ints, Ints], NDArray[np.float64]]:
    """Four figures of a pair that follow from the models, whatever their rows."""
    number = np.array([float(name[1:]) if name[1:] else -1.0 for name in family.names])
    return lambda a, b: np.stack([number[a], number[b], number[a] * number[b], number[a] - number[b]], axis=1)


def lists(family: Family, memo: Memo) -> list[tuple[int, ...]]:
    rows = zeroed(family)
    a, b, figures = pruned_pairs(family, coordinates(family), rows, K, names_of(family), memo, told(family))
    assert a.tolist() == np.repeat(rows, K).tolist()
    assert figures.tolist() == names_of(family)(a, b).tolist()
    return [tuple(each) for each in b.reshape(-1, K).tolist()]


def by_definition(family: Family) -> list[tuple[int, ...]]:
    vectors = coordinates(family).astype(np.float64)
    # Coordinates are seen from other models; what is zero is told by the samples that they are made from.
    total = sum(t.samples.shape[1] for t in family.measured)
    sizes = [t.samples.shape[1] * DIMENSIONS // total for t in family.measured]
    shown = np.concatenate([t.samples[:, :size] != 0 for t, size in zip(family.measured, sizes, strict=True)], axis=1)
    assert shown.shape == vectors.shape
    found = []
    for row in zeroed(family).tolist():
        apart = (((vectors - vectors[row]) * shown[row]) ** 2).sum(axis=1)
        apart[row] = np.inf
        found.append(tuple(sorted(np.argsort(apart, kind="stable")[:K].tolist())))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_lists_are_those_of_the_definition(seed: int) -> None:
    family = family_of(pruned_crowd(seed))
    assert lists(family, Memo()) == by_definition(family)


@pytest.mark.parametrize("seed", range(6))
def test_lists_that_are_kept_are_those_that_are_found_anew(seed: int) -> None:
    """Models come and go, pruned ones among them, one at a time and several."""
    rng = np.random.default_rng(seed)
    models = pruned_crowd(seed, 30)
    names = sorted(models)
    there = set(rng.choice(names, 15, replace=False).tolist())
    memo = Memo()
    kept = 0
    for _ in range(8):
        family = family_of({name: models[name] for name in sorted(there)})
        before = memo.used
        memo = Memo(before)
        assert lists(family, memo) == lists(family, Memo())
        kept += bool(before)
        for name in rng.choice(names, int(rng.integers(1, 4)), replace=False).tolist():
            there ^= {name}
    assert kept


def test_who_was_not_pruned_before_is_searched_for() -> None:
    """A model that has more zeros than the least of its tree counts as pruned only once another has fewer."""
    family = family_of(pruned_crowd(1))
    memo, rows, vectors = Memo(), zeroed(family), coordinates(family)
    few = (family, vectors, rows[1:], K, names_of(family), memo, told(family))
    pruned_pairs(*few)
    again = pruned_pairs(family, vectors, rows, K, names_of(family), Memo(memo.used), told(family))
    anew = pruned_pairs(family, vectors, rows, K, names_of(family))
    assert [each.tolist() for each in again] == [each.tolist() for each in anew]


def test_a_damaged_model_is_near_nobody() -> None:
    models = pruned_crowd(2)
    broken = {name: w.copy() for name, w in models["m01"].items()}
    broken = {name: w * np.float32(1e15) for name, w in broken.items()}
    family = family_of(models | {"z": broken})
    place = family.names.index("z")
    assert all(place not in each for each in lists(family, Memo()))
