"""Pairs of a large tree are the same however many models are normalised at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import large_measured
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
