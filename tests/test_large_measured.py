"""Pairs of a large tree are the same however many models are normalised at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import large_measured
from indexer.distance import correlations, normalised
from tests.mixed import mixed
from tests.test_memory_law import sketched


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 1 << 18))
def test_pairs_are_the_same_in_blocks_of_any_size(seed: int, normalised: int) -> None:
    family = sketched(mixed(seed % 50))
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, len(family), (2, 40))
    wanted = large_measured._measured(family, a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_measured, "_NORMALISED", normalised)
        found = large_measured._measured(family, a, b)
    for name in ("a", "b", "squared", "distance", "correlation", "shared", "equal"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 1 << 18), st.integers(1, 5), st.booleans())
def test_the_most_correlated_are_those_of_all_in_blocks_of_any_size(
    seed: int, normalised_at_once: int, rows_at_once: int, known: bool
) -> None:
    """Of those that correlate as much, the one that comes first; what is known already counts."""
    models = mixed(seed % 50)
    first = min(models)
    models["z-copy"] = models[first]
    family = sketched(models)
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(family))
    rows, others = np.sort(some[: len(some) // 3]), np.sort(some[len(some) // 3 :])
    best = np.where(known, others[-1], -1) * np.ones(len(rows), np.int64)
    told = normalised(family)
    like = np.array([[correlations(told, np.array([i]), np.array([j]))[0] for j in others] for i in rows])
    values = like[:, -1].copy() if known else np.full(len(rows), -np.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_measured, "_NORMALISED", normalised_at_once)
        patch.setattr(large_measured, "_BLOCK", rows_at_once)
        large_measured._best(family, rows, others, best, values)
    np.testing.assert_array_equal(values, like.max(axis=1))
    np.testing.assert_array_equal(best, others[like.argmax(axis=1)])


def test_damaged_weights_are_nobodys_most_correlated() -> None:
    asked, there = np.eye(3, 4, dtype=np.float32), np.eye(4, dtype=np.float32)
    there[2] = np.nan
    most = np.full((3, 1), -np.inf, np.float32)
    i, j, values = large_measured._likeliest(asked, there, most)
    assert [(a, b) for a, b, value in zip(i, j, values, strict=True) if value > 0] == [(0, 0), (1, 1)]
