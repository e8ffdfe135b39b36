"""Merges in a Model Tree: a merge hangs on the parent of largest coefficient, and never above any of its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import PRIVATE, ROOT, SHARPNESS, Ancestry, recover
from indexer.combination import Combination
from indexer.family import Family
from store.records import Edge, Evidence, Merge

__all__ = ["merge_rows", "name_merges", "recover_with_merges"]

_NEIGHBOURS = 32
"""Parents that `indexer.ancestry` considers a model in a larger component."""
_ROUNDS = 64


def recover_with_merges(
    squared: NDArray[np.float64],
    cues: Callable[[int, int], dict[str, float]],
    merges: Mapping[int, Combination],
    prior: NDArray[np.float64] | None = None,
) -> Ancestry:
    """As `recover`, with each merge on its main parent.

    The edge of a merge is no increment of training, so what it costs under one root or another, and its cues, say
    nothing about the root: both are taken off.

    That a merge descends from its other parents too, the tree does not show; that none of them descends from it is
    seen only when the tree is there, so an edge that would do it is forbidden and the tree recovered again.
    """
    if not merges:
        return recover(squared, cues, prior)
    n = len(squared)
    prior = np.zeros((n + 1, n)) if prior is None else prior.copy()
    squared = squared.copy()
    for row, merge in merges.items():
        main = merge.parents[0]
        prior[np.arange(n + 1) != main, row] = np.inf
        prior[main, row] = 0.0
        prior[row, list(merge.sources)] = np.inf
        order = np.sort(squared[row])
        if n > _NEIGHBOURS and squared[row, main] > order[_NEIGHBOURS - 1]:
            # Only the nearest are considered as parents: the main one becomes one of them.
            squared[row, main] = squared[main, row] = order[_NEIGHBOURS - 1]
    for row, merge in merges.items():
        main = merge.parents[0]
        prior[n] -= ROOT * SHARPNESS * _edge_cost(squared, main, row)
    pairs = {(merge.parents[0], row) for row, merge in merges.items()}

    def trained(u: int, v: int) -> dict[str, float]:
        found = cues(u, v)
        return dict.fromkeys(found, 0.0) if (u, v) in pairs or (v, u) in pairs else found

    for _ in range(_ROUNDS):
        found = recover(squared, trained, prior)
        circle = next((hop for row, merge in merges.items() if (hop := _way_down(found, row, merge, merges))), None)
        if circle is None:
            break
        prior[circle] = np.inf
    return found


def _edge_cost(squared: NDArray[np.float64], parent: int, child: int) -> NDArray[np.float64]:
    """Length n: log of the cost of one edge under each root (`indexer.ancestry.ancestor_costs`); 0 where unmeasured."""
    with np.errstate(invalid="ignore", divide="ignore"):
        private = np.maximum(0.0, (squared[parent] + squared[parent, child] - squared[child]) / 2)
        cost = np.log(squared[parent, child] + PRIVATE * private)
        cost[parent] = np.log(squared[parent, child])
    return np.asarray(np.where(np.isfinite(cost), cost, 0.0))


def _way_down(
    found: Ancestry, row: int, merge: Combination, merges: Mapping[int, Combination]
) -> tuple[int, int] | None:
    """An edge on the way from a merge down to one of its parents, the first that can be forbidden; None without one."""
    for parent in merge.sources:
        at, edge = parent, None
        while at != row and found.parent[at] >= 0:
            above = int(found.parent[at])
            if at not in merges:
                edge = above, at
            at = above
        if at == row and edge is not None:
            return edge
    return None


def name_merges(family: Family, edges: Iterable[Edge], merges: Mapping[int, Combination]) -> list[Edge]:
    """The edges, those of merges as such."""
    by_id = {int(family.model_ids[row]): merge for row, merge in merges.items()}
    return [_as_merge(family, edge, by_id[edge.child_id]) if edge.child_id in by_id else edge for edge in edges]


def _as_merge(family: Family, edge: Edge, merge: Combination) -> Edge:
    """The edge of a merge from that to its main parent."""
    names = [family.names[row] for row in merge.parents]
    sum_ = " + ".join(f"{c:.3g} {name}" for c, name in zip(merge.coefficients, names, strict=True)).replace("+ -", "- ")
    how = {
        "linear": "",
        "task_arithmetic": " (task arithmetic)",
        "slerp": " (spherical interpolation; means over layers)",
        "ties": " (TIES: coordinates trimmed, signs elected)",
        "dare": " (DARE: coordinates dropped, the rest scaled up)",
    }[merge.method]
    odds = float(np.log(merge.confidence / (1 - merge.confidence)))
    base = "" if merge.base is None else f" of what they have learned since {family.names[merge.base]}"
    says = f"{sum_}{base}{how}; what that leaves is rounding"
    return replace(
        edge,
        relation="merge",
        confidence=merge.confidence,
        runner_up_id=None,
        runner_up_confidence=None,
        evidence=(
            *(e for e in edge.evidence if e.cue == "distance"),
            Evidence("merge", float(len(merge.parents)), odds, says),
        ),
    )


def merge_rows(family: Family, merges: Mapping[int, Combination]) -> tuple[Merge, ...]:
    """A record a parent of each merge."""
    return tuple(
        Merge(int(family.model_ids[row]), int(family.model_ids[parent]), round(coefficient, 4), merge.method)
        for row, merge in merges.items()
        for parent, coefficient in zip(merge.parents, merge.coefficients, strict=True)
    )
