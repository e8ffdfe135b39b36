"""Whom newcomers are compared with: all, in as many blocks as memory allows, and once if it is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import links
from indexer.components import LIKELY
from indexer.links import join
from indexer.shortlist import products


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 1 << 20]))
def test_likeliest_and_those_elsewhere_are_those_of_all_pairs(n: int, seed: int, held: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[rng.random(n) < 0.2] = rng.choice([0.0, np.nan])
    new = rng.permutation(n)[: n // 2]
    labels = rng.integers(0, 3, n)
    a, b = (each.ravel() for each in np.meshgrid(new, np.arange(n), indexing="ij"))
    likeness = np.where(a == b, -np.inf, products(vectors, a, b)).reshape(len(new), n)
    with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
        patch.setattr(links, "_HELD", held)
        # Among vectors of others, which are passed over, in any order.
        rows = rng.choice(n + n // 4, n, replace=False)
        among = np.full((n + n // 4, 4), rng.choice([0.5, np.nan]), np.float32)
        among[rows] = vectors
        blocks = links._Blocks(among, new, rows)
        asked, other, like = links._likeliest(blocks)
        elsewhere = links._elsewhere(labels, blocks)
    best = np.nanmax(np.where(np.isnan(likeness), -np.inf, likeness), axis=1, initial=-np.inf)
    assert asked.tolist() == new[best >= LIKELY].tolist()
    assert like == pytest.approx(best[best >= LIKELY], abs=1e-6)
    assert (asked != other).all()
    at, to = np.nonzero((likeness >= LIKELY) & (labels[new][:, None] != labels))
    assert set(zip(*np.stack(elsewhere[:2]).tolist(), strict=True)) == set(
        zip(new[at].tolist(), to.tolist(), strict=True)
    )


@pytest.mark.parametrize("held", [1, 100, 1 << 20])
def test_newcomers_join_the_same_however_many_are_compared_at_a_time(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = np.triu(rng.random((40, 40)) < 0.2, 1)
    truth |= truth.T
    wanted = join(vectors, np.arange(40), np.arange(20, 40), lambda a, b: truth[a, b])
    monkeypatch.setattr(links, "_HELD", held)
    assert join(vectors, np.arange(40), np.arange(20, 40), lambda a, b: truth[a, b]).tolist() == wanted.tolist()
