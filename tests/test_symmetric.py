"""Pairs as lists of each row's others: what sorting all of them finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.pairs import KEPT_PAIRS, _among_first
from indexer.symmetric import each_way, places_in

PAIRS = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] != p[1]))
    )
)


@settings(deadline=None)
@given(PAIRS)
def test_each_way_is_each_pair_once_in_both_rows(told: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = told
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    starts, columns, first = each_way(n, a, b)
    wanted: dict[tuple[int, int], int] = {}
    for p, (u, v) in enumerate(pairs):
        wanted.setdefault((u, v), p)
        wanted.setdefault((v, u), p)
    rows = np.repeat(np.arange(n), np.diff(starts))
    found = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert found == sorted(wanted)
    assert first.tolist() == [wanted[pair] for pair in found]
    one, other = np.divmod(np.arange(n * n), n)
    places = places_in(starts, columns, one, other)
    assert [found[at] if at >= 0 else None for at in places] == [
        pair if pair in wanted else None for pair in zip(one.tolist(), other.tolist(), strict=True)
    ]


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_pairs_that_are_kept_are_among_the_nearest_of_either_end(n: int, seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(n, 1)
    some = rng.random(a.size) < rng.random()
    a, b = a[some], b[some]
    squared = rng.integers(0, values, a.size) / 1.0
    squared[rng.random(a.size) < 0.1] = np.inf
    starts, _, pairs = each_way(n, a, b)
    wanted = set()
    for row in range(n):
        own = [p for p in range(a.size) if row in (a[p], b[p])]
        wanted |= set(sorted(own, key=lambda p: (squared[p], p))[:KEPT_PAIRS])
    assert set(np.flatnonzero(_among_first(starts, pairs, squared, KEPT_PAIRS)).tolist()) == wanted
