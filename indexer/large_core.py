"""The core of a large component recovered, as `indexer.core` and `indexer.merged_tree` do it for small ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.adapter import told_rank
from indexer.ancestry import Ancestry
from indexer.combination import Combination
from indexer.core import family_cues
from indexer.family import Family
from indexer.inheritance import CHANGE, contents
from indexer.large import recover_large
from indexer.large_measured import LargeMeasured, between
from indexer.memo import Memo
from indexer.merge import find_merges
from indexer.merged_tree import place_merges, trained_from_merge
from indexer.prior import Prior
from indexer.ranks import EACH, FIRST, UNTOLD
from indexer.roots import WEIGHTS
from indexer.sparse import Sparse
from indexer.turned import dated_root
from indexer.weighing import CoreMetadata, Weighing

__all__ = ["LargeCore", "recover_large_core"]

CENTRAL: Final = 64
"""Most central models, first first, among which merges look for a base."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LargeCore:
    """As `indexer.core.Core`, without what is n x n."""

    family: Family
    squared: Sparse
    merges: Mapping[int, Combination]
    cues: Callable[[int, int], dict[str, float]]


def recover_large_core(
    tree: Family,
    measured: LargeMeasured,
    derived: Collection[int],
    weighing: Weighing | None,
    memo: Memo,
    root_weights: Floats = WEIGHTS,
) -> tuple[LargeCore, Ancestry]:
    """The core of a component without copies, and its ancestry."""
    rows = _without(len(tree), derived)
    family, near = _restricted(tree, measured.near, rows)
    a = np.repeat(np.arange(len(rows)), (near >= 0).sum(axis=1))
    b = near[near >= 0]
    squared = Sparse(
        len(rows), a, b, measured.squared[rows[a], rows[b]], diagonal=0.0, unknown=np.inf, measure=between(family)
    )
    sizes = np.einsum("nd,nd->n", measured.vectors, measured.vectors)[rows]
    central = np.argsort(sizes, kind="stable")[:CENTRAL]
    merges = find_merges(family, squared, central, memo)
    cues = family_cues(family)
    plain = _without(len(rows), merges)
    trained, among = _restricted(family, near, plain)
    # Megabytes a thousand models: they are copied once, if at all.
    of_trained = measured.vectors if len(plain) == len(tree) else measured.vectors[rows[plain]]
    prior = _Prior(trained, None if weighing is None else weighing.of_core().take(plain))
    inner, root, reach = recover_large(
        trained,
        of_trained,
        among,
        lambda u, v: cues(int(plain[u]), int(plain[v])),
        prior,
        memo,
        root_weights,
    )
    tuned = {}
    computed = np.zeros(len(rows) + 1, bool)
    computed[list(merges)] = True
    for child in plain[computed[near[plain, 0]]].tolist():
        above = [int(r) for r in near[child] if r >= 0 and (r not in merges or child not in merges[int(r)].sources)]
        if above and above[0] in merges:
            around = np.setdiff1d(np.append(near[child], near[above[0]]), [-1, *merges])
            asked = np.concatenate([[above[0]], merges[above[0]].sources, [child], around]).astype(np.int64)
            told = family.content_keys[asked].tobytes() + bytes([len(merges[above[0]].sources)])
            if memo.is_so(
                "tuned", family.content_hashes[child], told, _tuned_by(squared, child, above[0], merges, around)
            ):
                tuned[child] = above[0]
    ancestry = place_merges(len(rows), plain, inner, merges, tuned)
    # What edges are told from is how far their ends lie from the root, which is known.
    squared = squared.with_values(np.full(len(plain), plain[root]), plain, reach)
    return LargeCore(family, squared, merges, cues), ancestry


def _tuned_by(
    squared: Sparse, child: int, merge: int, merges: Mapping[int, Combination], around: Ints
) -> Callable[[], bool]:
    return lambda: trained_from_merge(squared, child, merge, merges[merge], around)


def _without(n: int, some: Collection[int]) -> Ints:
    """Rows of n but for some."""
    return np.delete(np.arange(n), list(some))


def _restricted(family: Family, near: Ints, rows: Ints) -> tuple[Family, Ints]:
    """Some rows of a family with their lists of nearest, in their own numbers."""
    if len(rows) == len(family):
        return family, near
    place = np.full(len(family) + 1, -1)
    place[rows] = np.arange(len(rows))
    lists = place[near[rows]]
    # Who is left moves up.
    order = np.argsort(lists < 0, axis=1, kind="stable")
    return family.take(rows), np.take_along_axis(lists, order, axis=1)


class _Prior:
    """What equal tensors, ranks and metadata add to the cost of edges, as in `indexer.core`, for a few rows each."""

    def __init__(self, family: Family, told: CoreMetadata | None) -> None:
        self._family = family
        self._contents = contents(family)
        self._metadata = told

    def told(self, tails: Ints, heads: Ints) -> Floats:
        changes = (self._contents[:, tails] != self._contents[:, heads]).sum(axis=0)
        first = np.flatnonzero(np.diff(heads, prepend=-1))
        least = np.repeat(np.minimum.reduceat(changes, first), np.diff(first, append=len(heads)))
        cost: Floats = CHANGE * (changes - least).astype(np.float64)
        return cost if self._metadata is None else cost + self._metadata.costs(tails, heads)

    def sampled(self, rows: Ints) -> Prior:
        k = len(rows)
        edges = np.zeros((k + 1, k)) if self._metadata is None else self._metadata.take(rows).prior()
        return Prior(edges, np.zeros((k, k)))

    def metadata(self, rows: Ints) -> str:
        if self._metadata is None:
            return ""
        few = self._metadata.take(rows)
        return f"{few.created.tolist()} {few.declared}"

    def dated_root(self, parent: Ints) -> int:
        if self._metadata is None:
            return int(np.flatnonzero(parent < 0)[0])
        return dated_root(parent, self._metadata.created)

    def ranks(self, v: int, rows: Ints, squared: Floats) -> Floats:
        nothing = np.zeros(len(rows))
        if not self._family.projections:
            return nothing
        order = np.argsort(squared, kind="stable")
        order = order[(squared[order] > 0) & np.isfinite(squared[order])]
        # The root, which comes first, is asked too: a model's own children may be nearer.
        first = np.append(order[:FIRST], order[order == 0])
        known = {at: told_rank(self._family, int(rows[at]), v) for at in first.tolist()}
        if not any(known.values()):
            return nothing
        ranks = np.full(len(rows), UNTOLD)
        for at in order.tolist():
            rank = known[at] if at in known else told_rank(self._family, int(rows[at]), v)
            ranks[at] = UNTOLD if rank is None else rank
        # Too little to tell speaks neither for an edge nor against it.
        return EACH * np.where(ranks > 0, ranks, ranks[ranks > 0].min())
