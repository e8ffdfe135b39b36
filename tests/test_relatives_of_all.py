"""Who is related among all models: by search vectors alone where these are sure, else by all samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from indexer import components
from indexer.components import LIKELY, SURE, connect, find_components
from indexer.distance import RELATED, correlations, normalised
from indexer.links import join
from indexer.shortlist import products, whole
from tests.grown import family_of, grow, start

Ints = NDArray[np.int64]
SIZES = (3, 1, 2)


class Some:
    """n unit vectors near a few centres, some without a tensor; which pairs are related by more than they show."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((max(1, n // 4), sum(SIZES)))
        vectors = centres[rng.integers(0, len(centres), n)] + rng.choice([0.1, 0.6]) * rng.standard_normal((n, 6))
        vectors[rng.random(n) < 0.3, 3] = 0.0
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.complete = (self.vectors[:, 3] != 0) & (self.vectors[:, :3] != 0).any(axis=1)
        likeness = self.vectors.astype(np.float64) @ self.vectors.T.astype(np.float64)
        both = self.complete[:, None] & self.complete[None, :]
        self.sure = (likeness >= SURE) & both
        self.truth = np.triu(rng.random((n, n)) < 0.5, 1)
        self.truth |= self.truth.T
        self.linked = (likeness >= LIKELY) & (self.sure | self.truth)
        """Where pairs that are sure are not asked of."""
        self.asked = (likeness >= LIKELY) & self.truth
        """Where all are."""

    def related(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        assert not self.sure[a, b].any()
        return np.asarray(self.truth[a, b])


def same_parts(one: Ints, other: Ints) -> bool:
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


@settings(deadline=None, max_examples=80)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.sampled_from([3, 8, 2048]), st.data())
def test_components_are_what_all_pairs_say(n: int, seed: int, block: int, data: st.DataObject) -> None:
    some = Some(n, seed)
    wanted = connected_components(coo_matrix(some.linked))[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "_BLOCK", block)
        patch.setattr(components, "_PAIRS", data.draw(st.sampled_from([0, 5, 100_000])))
        labels = connect(some.vectors, some.related, SIZES)
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))
        few = connect(some.vectors, lambda a, b: some.related(rows[a], rows[b]), SIZES, rows)
    assert same_parts(labels, wanted)
    assert same_parts(few, connected_components(coo_matrix(some.linked[np.ix_(rows, rows)]))[1])


@settings(deadline=None, max_examples=80)
@given(st.integers(2, 16), st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_joining_one_by_one_equals_all_at_once(n: int, seed: int, all_asked: bool, data: st.DataObject) -> None:
    """Models come in any order and batches; in the end components are what all pairs say."""
    some = Some(n, seed)
    sizes = None if all_asked else SIZES
    order = data.draw(st.permutations(range(n)))
    labels = -1000 - np.arange(n)
    present: list[int] = []
    while len(present) < n:
        batch = order[len(present) : len(present) + data.draw(st.integers(1, 4))]
        present = [*present, *batch]
        rows = np.array(present)
        new = np.arange(len(present) - len(batch), len(present))

        def related(a: Ints, b: Ints, rows: Ints = rows) -> NDArray[np.bool_]:
            return some.truth[rows[a], rows[b]] if all_asked else some.related(rows[a], rows[b])

        labels[rows] = join(some.vectors[rows], labels[rows], new, related, sizes)
    linked = some.asked if all_asked else some.linked
    assert same_parts(labels, connected_components(coo_matrix(linked))[1])


def test_products_do_not_depend_on_what_is_asked_beside_them() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 333)).astype(np.float32)
    a, b = rng.integers(0, 50, (2, 400))
    every = products(vectors, a, b)
    assert every == pytest.approx((vectors.astype(np.float64)[a] * vectors[b]).sum(axis=1))
    assert every.tolist() == [float(products(vectors, a[i : i + 1], b[i : i + 1])[0]) for i in range(400)]
    assert every.tolist() == products(vectors, b, a).tolist()


def test_whole_are_those_with_a_coordinate_of_each_tensor() -> None:
    vectors = np.array([[0, 1, 0, 2, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]], np.float32)
    assert whole(vectors, [3, 2]).tolist() == [True, False, False]
    assert whole(vectors[:0], [3, 2]).tolist() == []


def test_sure_is_far_above_what_a_search_vector_errs_by() -> None:
    """Models that correlate at about SURE are one component, with nothing or with all samples asked."""
    root = start(3)
    strangers = {f"s{i}": start(100 + i) for i in range(6)}
    mixed = {f"m{i}": {k: w + strangers[f"s{i}"][k] for k, w in root.items()} for i in range(6)}
    family = family_of(mixed | {"root": root})
    told = normalised(family)
    a, b = np.triu_indices(len(family), 1)
    like = correlations(told, a, b)
    assert 0.4 < np.median(like) < 0.6
    assert (like > RELATED).all()
    assert find_components(family).max() == 0
    assert find_components(family_of(strangers)).max() == 5
    near = family_of({"a": root, "b": grow(root, 1, 0.2)})
    assert find_components(near).max() == 0
