"""Piles of equal ratios: what is only guessed at misses none that there is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.piles import find_piles, largest_pile


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 1 << 20), st.floats(0.08, 0.9), st.floats(0.02, 3.0), st.sampled_from([0, 1, 2]))
def test_a_pile_is_found_by_its_definition_and_by_bins(seed: int, share: float, factor: float, precision: int) -> None:
    """A row that is a multiple of a candidate's change at a share of its coordinates, among others that are not."""
    rng = np.random.default_rng(seed)
    m, size = 4096, 1e5 if precision == 0 else 3e3
    change = size * rng.standard_normal((6, m))
    moved = np.where(rng.random(m) < share, factor * change[2], size * rng.standard_normal(m))
    # From each candidate the row is what it is from the base, less that candidate's change.
    away = np.round(np.vstack([moved, moved - change]))
    every = np.arange(len(away))
    found = find_piles(away, 0, every, precision)
    at = np.abs(away[0]) > 0
    for row in every[1:]:
        wanted = largest_pile(away[0, at], (away[0] - away[row])[at], precision)
        assert (row in found) == (wanted is not None)
    assert 3 in found
    np.testing.assert_allclose(found[3][1], factor, rtol=0.02)
