"""Samples read as an array of float64 is read, whoever shares them."""

from __future__ import annotations

import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from indexer.samples import PRECISIONS, Samples, round_to, side_by_side
from tests.grown import family_of, grow, start

values = st.floats(-1e6, 1e6, width=32)
tables = st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=values)
)


@given(tables, st.integers(0, 2**32 - 1))
def test_indexing_is_that_of_the_array(table: NDArray[np.float64], seed: int) -> None:
    n, m = table.shape
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(n, size=4), rng.integers(m, size=3)
    for samples, wanted in (
        (Samples.of(table), table),
        (Samples.of(table).take(rows), table[rows]),
        (Samples.of(table).columns(0, m - 1), table[:, : m - 1]),
        (side_by_side([Samples.of(table), Samples.of(table).take(np.arange(n))]), np.hstack([table, table])),
        (pickle.loads(pickle.dumps(Samples.of(table).take(rows))), table[rows]),
    ):
        assert samples.shape == wanted.shape
        np.testing.assert_array_equal(samples, wanted)
        at = rng.integers(len(wanted), size=2)
        to = columns[columns < wanted.shape[1]]
        for key in (0, [0, 0], at, slice(0, 2), (0, to), np.ix_(at, to), (slice(None), slice(0, 2))):
            found = samples[key]
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, wanted[key])


def test_what_float32_would_lose_stays_float64() -> None:
    exact = np.array([[1.5, 2.0], [0.1, 3.0]])
    assert Samples.of(exact).held.dtype == np.float64
    # On its own the first row needs no more.
    first = Samples.of(exact).take(np.array([0]))
    assert first.held.dtype == np.float64
    assert first.alone().held.dtype == np.float32
    assert first.alone()[0].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("level", range(len(PRECISIONS)))
def test_rounded_once_for_all_that_share(level: int) -> None:
    table = np.random.default_rng(0).standard_normal((5, 300)).astype(np.float32)
    samples = Samples.of(table)
    part = samples.take(np.array([3, 1]))
    first = samples.rounded(level, np.array([3]))
    np.testing.assert_array_equal(first[3], round_to(table[3], level))
    assert part.rounded(level, np.array([0, 1])) is first
    np.testing.assert_array_equal(first[[1, 3]], round_to(table[[1, 3]], level))
    np.testing.assert_array_equal(part.at(level, [0]), round_to(table[[3]], level).astype(np.float64))


def test_precision_is_the_shortest_that_holds_the_values() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((3, 4_000)).astype(np.float32)
    whole[1] = whole[1].astype(np.float16)
    whole[2] = whole[2].astype(ml_dtypes.bfloat16)
    assert Samples.of(whole).precisions().tolist() == [0, 1, 2]
    # Four of 4,000 values may need more digits, five not.
    whole[2, :4] = 0.1
    assert Samples.of(whole).precisions()[2] == 2
    whole[2, 2_000] = 0.1
    assert Samples.of(whole).precisions()[2] == 0


def test_a_family_goes_to_another_process_with_each_sample_once() -> None:
    family = family_of({f"m{i}": grow(start(0), i) for i in range(5)}).joined()
    family.precision  # noqa: B018 - something worked out, which is left behind
    sent = pickle.dumps(family)
    assert len(sent) < 1.5 * family.samples.held.nbytes
    came = pickle.loads(sent)
    assert came.names == family.names
    for one, other in zip(came.tensors, family.tensors, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert np.shares_memory(one.samples.held, came.samples.held) == (one in came.measured)
    part = family.take([4, 2]).alone()
    assert len(part.samples.held) == 2
    np.testing.assert_array_equal(part.samples, family.samples[[4, 2]])
