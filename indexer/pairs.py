"""Which of the measured pairs are stored."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from indexer.distance import Pairs
from indexer.family import Family
from indexer.symmetric import each_way
from store.pairs import PAIRS

__all__ = ["nearest_pairs"]

KEPT_PAIRS: Final = 16
"""Pairs a model that are stored, nearest first."""


def nearest_pairs(tree: Family, measured: Pairs) -> Any:
    """The stored part of what was measured: each model's nearest, as an Arrow table of PAIRS."""
    starts, _, pairs = each_way(len(tree), measured.a, measured.b)
    kept = np.flatnonzero(_among_first(starts, pairs, measured.squared, KEPT_PAIRS))
    low, high = np.sort(tree.model_ids[np.stack([measured.a[kept], measured.b[kept]])], axis=0)
    numbers = [x[kept] for x in (measured.distance, measured.correlation, measured.shared, measured.equal)]
    return pa.table([low, high, *numbers, pa.nulls(kept.size, pa.int32())], PAIRS)


@njit(cache=True, nogil=True)
def _among_first(
    starts: NDArray[np.int64], pairs: NDArray[np.int64], squared: NDArray[np.float64], k: int
) -> NDArray[np.bool_]:
    """P: which pairs are among the k nearest of either end; of equally far ones the first pair is nearer."""
    chosen = np.zeros(squared.size, np.bool_)
    for row in range(starts.size - 1):
        own = pairs[starts[row] : starts[row + 1]]
        if own.size > k:
            own = own[np.argsort(squared[own], kind="mergesort")[:k]]
        for pair in own:
            chosen[pair] = True
    return chosen
