"""Merges in a Model Tree: a merge hangs on the parent of largest coefficient, and never above any of its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import Ancestry, recover
from indexer.combination import Combination
from indexer.family import Family
from indexer.regression import regress
from store.records import Edge, Evidence, Merge

__all__ = ["merge_rows", "name_merges", "recover_with_merges"]

_ALIKE: Final = 0.25
"""How far a child's coefficients may lie from the merge's that it was trained from."""
_BELOW: Final = 0.9
"""Confidence that a model hangs on a merge: it is nearest, and what its parents gave is there in the same shares."""


def recover_with_merges(
    squared: NDArray[np.float64],
    cues: Callable[[int, int], dict[str, float]],
    merges: Mapping[int, Combination],
    prior: NDArray[np.float64] | None = None,
) -> Ancestry:
    """As `recover`, with each merge on its main parent.

    The edge of a merge is no increment of training, and a merge is a linear combination of others, which a regression
    cannot tell apart: so the tree of all others is recovered without them. A model whose nearest is a merge, and whose
    coefficients on that merge's parents are the merge's own, was trained from it.
    """
    if not merges:
        return recover(squared, cues, prior)
    n = len(squared)
    rows = np.array([row for row in range(n) if row not in merges], np.int64)
    inner = recover(
        squared[np.ix_(rows, rows)],
        lambda u, v: cues(int(rows[u]), int(rows[v])),
        None if prior is None else prior[np.ix_(np.append(rows, n), rows)],
    )
    found = Ancestry(np.full(n, -1), np.ones(n), np.full(n, -1), np.zeros(n))
    for name in ("parent", "runner_up"):
        at = getattr(inner, name)
        getattr(found, name)[rows] = np.where(at >= 0, rows[at], -1)
    found.confidence[rows] = inner.confidence
    found.runner_up_confidence[rows] = inner.runner_up_confidence
    for row, merge in merges.items():
        found.parent[row], found.confidence[row] = merge.parents[0], merge.confidence
    for child, row in _trained_from(squared, rows, int(np.flatnonzero(inner.parent < 0)[0]), merges):
        if not any(child in _line(found.parent, source) for source in merges[row].sources):
            found.runner_up[child] = found.parent[child]
            found.runner_up_confidence[child] = (1 - _BELOW) * found.confidence[child]
            found.parent[child], found.confidence[child] = row, _BELOW
    return found


def _trained_from(
    squared: NDArray[np.float64], rows: NDArray[np.int64], root: int, merges: Mapping[int, Combination]
) -> list[tuple[int, int]]:
    """(child, merge) where the child's nearest model is the merge and its coefficients are the merge's."""
    inside = squared[np.ix_(rows, rows)]
    if not np.isfinite(inside).all() or len(rows) < 3:
        return []
    place = {int(row): at for at, row in enumerate(rows)}
    slope = regress(inside, root).coefficient
    apart = squared + np.diag(np.full(len(squared), np.inf))
    result = []
    for at, child in enumerate(rows):
        nearest = int(np.argmin(apart[child]))
        merge = merges.get(nearest)
        if at == root or merge is None or any(parent not in place for parent in merge.parents):
            continue
        gave = slope[[place[parent] for parent in merge.parents], at]
        if np.abs(gave - np.array(merge.coefficients)).max() <= _ALIKE:
            result.append((int(child), nearest))
    return result


def _line(parent: NDArray[np.int64], row: int) -> set[int]:
    """A row and all above it."""
    line = {row}
    while (row := int(parent[row])) >= 0 and row not in line:
        line.add(row)
    return line


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
