"""Which of the measured pairs are stored."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from indexer.distance import Pairs
from indexer.family import Family
from store.pairs import PAIRS

__all__ = ["nearest_pairs"]

KEPT_PAIRS: Final = 16
"""Pairs a model that are stored, nearest first."""


def nearest_pairs(tree: Family, measured: Pairs) -> Any:
    """The stored part of what was measured: each model's nearest, as an Arrow table of PAIRS."""
    order = np.argsort(measured.squared, kind="stable")
    ends = np.stack([measured.a[order], measured.b[order]], axis=1).reshape(-1)
    # By model, nearest first: a pair is kept that is among the first of either end.
    by_model = np.argsort(ends, kind="stable")
    starts = np.searchsorted(ends[by_model], np.arange(len(tree)))
    among_first = np.arange(ends.size) - starts[ends[by_model]] < KEPT_PAIRS
    chosen = np.zeros(order.size, bool)
    chosen[order[by_model[among_first] // 2]] = True
    kept = np.flatnonzero(chosen)
    low, high = np.sort(tree.model_ids[np.stack([measured.a[kept], measured.b[kept]])], axis=0)
    numbers = [x[kept] for x in (measured.distance, measured.correlation, measured.shared, measured.equal)]
    return pa.table([low, high, *numbers, pa.nulls(kept.size, pa.int32())], PAIRS)
