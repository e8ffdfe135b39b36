"""Which of the measured pairs are stored."""

from __future__ import annotations

from itertools import repeat
from typing import Final

import numpy as np

from indexer.distance import Pairs
from indexer.family import Family
from store.records import Pair

__all__ = ["nearest_pairs"]

KEPT_PAIRS: Final = 16
"""Pairs a model that are stored, nearest first."""


def nearest_pairs(tree: Family, measured: Pairs) -> tuple[Pair, ...]:
    """The stored part of what was measured: each model's nearest."""
    order = np.argsort(measured.squared, kind="stable")
    ends = np.concatenate([measured.a[order], measured.b[order]])
    # By model, nearest first: a pair is kept that is among the first of either end.
    by_model = np.lexsort((np.tile(np.arange(order.size), 2), ends))
    first = np.searchsorted(ends[by_model], ends[by_model])
    kept = np.unique(order[by_model[np.arange(ends.size) - first < KEPT_PAIRS] % max(1, order.size)])
    low, high = np.sort(tree.model_ids[np.stack([measured.a[kept], measured.b[kept]])], axis=0).tolist()
    numbers = [x[kept].tolist() for x in (measured.distance, measured.correlation, measured.shared, measured.equal)]
    return tuple(map(Pair, low, high, *numbers, repeat(None)))
