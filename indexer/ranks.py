"""Ranks of differences as a tree metric: adapters add up along a path, and a rank that is told is told exactly.

A child tuned by LoRA of rank r differs from its parent by rank r, from its siblings and its grandparent by more (the
l_LoRA distance of the MoTHer paper, equation 2). Where increments differ much in length, squared distances are noisy
and ranks are not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from indexer.adapter import told_rank
from indexer.family import Family
from indexer.memo import Memo

__all__ = ["EACH", "FIRST", "NEAREST", "UNTOLD", "bounded", "rank_costs"]

EACH: Final = 0.75
"""Cost of each rank. Ranks are whole numbers, and mostly multiples of 4."""
UNTOLD: Final = 64
"""Rank of a difference that no low rank explains."""
NEAREST: Final = 8
FIRST: Final = 3
"""When none of the nearest few differs by a low rank, the model was tuned in full."""
_NONE: Final = 0xFFFF
"""In memory, no low rank."""


class _Ranks:
    """`told_rank` of pairs of rows, measured once, and remembered by the one whose content hash is the later."""

    def __init__(self, family: Family, memo: Memo) -> None:
        self._family, self._memo = family, memo
        self._known: dict[int, dict[bytes, bytes]] = {}
        self._asked: dict[int, dict[bytes, bytes]] = {}

    def __call__(self, u: int, v: int) -> int | None:
        contents = self._family.content_hashes
        first, last = (u, v) if contents[u] < contents[v] else (v, u)
        if last not in self._known:
            self._known[last] = self._memo.items("ranks", contents[last], 2)
        key = bytes(self._family.content_keys[first])
        told = self._known[last].get(key)
        if told is None:
            rank = told_rank(self._family, first, last)
            told = self._known[last][key] = (_NONE if rank is None else rank).to_bytes(2, "little")
        self._asked.setdefault(last, {})[key] = told
        rank = int.from_bytes(told, "little")
        return None if rank == _NONE else rank

    def keep(self) -> None:
        for row, told in self._asked.items():
            self._memo.keep_items("ranks", self._family.content_hashes[row], told)


def rank_costs(family: Family, squared: NDArray[np.float64], memo: Memo | None = None) -> NDArray[np.float64]:
    """n x n costs of u -> v, as much as v -> u, from the ranks of their differences: they say who is adjacent.

    All 0 where no low rank is found. What `memo` knows is not measured again.
    """
    n = len(family)
    ranks = np.full((n, n), UNTOLD)
    if not family.projections:
        return np.zeros((n, n))
    rank = _Ranks(family, memo or Memo())

    def measure(v: int, others: NDArray[np.int64]) -> None:
        for u in others.tolist():
            if 0 < squared[u, v] < np.inf:
                told = rank(u, v)
                ranks[u, v] = ranks[v, u] = UNTOLD if told is None else told

    order = np.argsort(squared + np.diag(np.full(n, np.inf)), axis=1, kind="stable")[:, : n - 1]
    near = order[:, :NEAREST]
    for v in range(n):
        if any(0 < squared[u, v] < np.inf and rank(u, v) for u in near[v, :FIRST].tolist()):
            measure(v, near[v])
    # A model and its base that both have many children are in neither's list.
    many = np.bincount(near.reshape(-1), minlength=n) >= NEAREST
    for v in np.flatnonzero((ranks < UNTOLD).any(axis=0)).tolist():
        measure(v, order[v][many[order[v]]][:NEAREST])
    rank.keep()
    low = (ranks > 0) & (ranks < UNTOLD)
    return np.asarray(EACH * bounded(ranks)) if low.any() else np.zeros((n, n))


def bounded(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """n x n ranks with those that are not told (UNTOLD, or 0 where two differ by too little) as what the others say.

    The rank of a sum is at most the sum of ranks, so no rank is larger than what any way round has in all. And too
    little to tell speaks neither for an edge nor against it: it is the least that is told of either.
    """
    told = np.where((ranks > 0) & (ranks < UNTOLD), ranks, 0)
    around = np.minimum(shortest_path(csr_array(told), directed=False), UNTOLD).astype(np.int64)
    least = np.where(told > 0, told, UNTOLD).min(axis=0)
    return np.where(told > 0, told, np.where(ranks == 0, np.minimum.outer(least, least), around))
