"""Ranks of differences as a tree metric: adapters add up along a path, and a rank that is told is told exactly.

A child tuned by LoRA of rank r differs from its parent by rank r, from its siblings and its grandparent by more (the
l_LoRA distance of the MoTHer paper, equation 2). Where increments differ much in length, squared distances are noisy
and ranks are not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.adapter import told_rank
from indexer.family import Family

__all__ = ["EACH", "FIRST", "NEAREST", "UNTOLD", "rank_costs"]

EACH: Final = 0.75
"""Cost of each rank. Ranks are whole numbers, and mostly multiples of 4."""
UNTOLD: Final = 64
"""Rank of a difference that no low rank explains."""
NEAREST: Final = 8
FIRST: Final = 3
"""When none of the nearest few differs by a low rank, the model was tuned in full."""


def rank_costs(family: Family, squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1) x n costs of u -> v, as much as v -> u, from the ranks of their differences; a root has none.

    Being symmetric, they say who is adjacent and leave the root to others. All 0 where no low rank is found.
    """
    n = len(family)
    ranks = np.full((n, n), UNTOLD)
    if not family.projections:
        return np.zeros((n + 1, n))
    known: dict[tuple[int, int], int | None] = {}

    def rank(u: int, v: int) -> int | None:
        pair = (min(u, v), max(u, v))
        if pair not in known:
            known[pair] = told_rank(family, *pair)
        return known[pair]

    order = np.argsort(squared + np.diag(np.full(n, np.inf)), axis=1, kind="stable")[:, : min(NEAREST, n - 1)]
    for v in range(n):
        near = [int(u) for u in order[v] if 0 < squared[u, v] < np.inf]
        if all(rank(u, v) is None for u in near[:FIRST]):
            continue
        for u in near:
            ranks[u, v] = ranks[v, u] = rank(u, v) or UNTOLD
    costs = EACH * ranks if (ranks < UNTOLD).any() else np.zeros((n, n))
    return np.concatenate([costs, np.zeros((1, n))])
