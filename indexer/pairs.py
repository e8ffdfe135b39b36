"""Which of the measured pairs are stored."""

from __future__ import annotations

from collections import defaultdict
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
    kept: set[int] = set()
    order = np.argsort(measured.squared, kind="stable")
    seen: dict[int, int] = defaultdict(int)
    for at in order:
        a, b = int(measured.a[at]), int(measured.b[at])
        if seen[a] < KEPT_PAIRS or seen[b] < KEPT_PAIRS:
            kept.add(int(at))
            seen[a] += 1
            seen[b] += 1
    result = []
    for at in sorted(kept):
        ids = sorted((int(tree.model_ids[measured.a[at]]), int(tree.model_ids[measured.b[at]])))
        result.append(
            Pair(
                ids[0],
                ids[1],
                float(measured.distance[at]),
                float(measured.correlation[at]),
                float(measured.shared[at]),
                float(measured.equal[at]),
                None,
            )
        )
    return tuple(result)
