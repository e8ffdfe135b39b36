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
from indexer.prior import Prior
from indexer.roots import WEIGHTS
from indexer.sparse import Matrix
from store.records import Edge, Evidence, Merge

__all__ = ["merge_rows", "name_merges", "place_merges", "recover_with_merges", "trained_from_merge"]

_ASIDE: Final = 0.25
"""Part of the way from a merge to one of its parents that a model trained from the merge may seem to have gone: 0, but
for noise and drift; one trained from that parent has gone all of it."""
_BELOW: Final = 0.9
"""Confidence that a model hangs on a merge: it is nearest, and what its parents gave is there in the same shares."""


def recover_with_merges(
    squared: NDArray[np.float64],
    cues: Callable[[int, int], dict[str, float]],
    merges: Mapping[int, Combination],
    prior: Prior | None = None,
    root_weights: NDArray[np.float64] = WEIGHTS,
    threads: int = 1,
) -> Ancestry:
    """As `recover`, with each merge on its main parent.

    The edge of a merge is no increment of training, and a merge is a linear combination of others, which a regression
    cannot tell apart: so the tree of all others is recovered without them. A model that was trained from a merge takes
    part as if it had been trained from the main parent.
    """
    if not merges:
        return recover(squared, cues, prior, root_weights, threads)
    n = len(squared)
    rows = np.array([row for row in range(n) if row not in merges], np.int64)
    tuned = _trained_from(squared, rows, merges)
    for child, merge in tuned.items():
        squared = _carried(squared, child, merge, merges[merge].parents[0])
    inner = recover(
        squared[np.ix_(rows, rows)],
        lambda u, v: cues(int(rows[u]), int(rows[v])),
        None if prior is None else prior.take(rows),
        root_weights,
        threads,
    )
    return place_merges(n, rows, inner, merges, tuned)


def place_merges(
    n: int,
    rows: NDArray[np.int64],
    inner: Ancestry,
    merges: Mapping[int, Combination],
    tuned: Mapping[int, int],
) -> Ancestry:
    """The answer for n models from that of `rows`, which are no merges, and child -> merge that it was `tuned` from."""
    found = Ancestry(np.full(n, -1), np.ones(n), np.full(n, -1), np.zeros(n))
    for name in ("parent", "runner_up"):
        at_rows = getattr(inner, name)
        getattr(found, name)[rows] = np.where(at_rows >= 0, rows[at_rows], -1)
    found.confidence[rows] = inner.confidence
    found.runner_up_confidence[rows] = inner.runner_up_confidence
    for row, merge_of in merges.items():
        found.parent[row], found.confidence[row] = merge_of.parents[0], merge_of.confidence
    for child, row in tuned.items():
        above = found.parent[child]
        if above >= 0 and not any(child in _line(found.parent, source) for source in merges[row].sources):
            found.runner_up[child] = above
            found.runner_up_confidence[child] = (1 - _BELOW) * found.confidence[child]
            found.parent[child], found.confidence[child] = row, _BELOW
    return found


def _trained_from(
    squared: NDArray[np.float64], rows: NDArray[np.int64], merges: Mapping[int, Combination]
) -> dict[int, int]:
    """Child -> the merge that it was trained from.

    That is the nearest model m that was not made of it, and what v has learned since, v - m, is at right angles to
    p - m for each p that m was made of: |p - m|^2 more lies between v and p. So it is for a root v between two that
    were merged; but then, of all that are not on the side of those two, more are nearer to v than to m.
    """
    apart = squared + np.diag(np.full(len(squared), np.inf))
    result = {}
    for child in (int(row) for row in rows):
        above = [row not in merges or child not in merges[row].sources for row in range(len(squared))]
        nearest = int(np.argmin(np.where(above, apart[child], np.inf)))
        if nearest in merges and trained_from_merge(squared, child, nearest, merges[nearest], rows):
            result[child] = nearest
    return result


def trained_from_merge(
    squared: Matrix, child: int, merge: int, combination: Combination, others: NDArray[np.int64]
) -> bool:
    """Was `child` trained from its nearest model, a merge? `others` are the models that take sides, no merges."""
    sources = np.array(combination.sources, np.int64)
    way = squared[child, merge]
    others = np.setdiff1d(others, np.append(sources, child))
    with np.errstate(invalid="ignore"):
        of_sources = (way + squared[sources, merge] - squared[sources, child]) / (2 * squared[sources, merge])
    side = np.argmin(squared[np.ix_(np.append([merge, child], sources), others)], axis=0)
    return bool(np.abs(of_sources).max() <= _ASIDE and (side == 1).sum() < (side == 0).sum())


def _carried(squared: NDArray[np.float64], child: int, merge: int, main: int) -> NDArray[np.float64]:
    """Squared distances, n x n, as if what a child learned since a merge were learned since its main parent: with the
    child at v + p - m, by the parallelogram of the four."""
    with np.errstate(invalid="ignore"):
        away = squared[child] + squared[main, merge] + squared[child, merge] + squared[main] - squared[child, main]
        away = np.maximum(away - squared[merge], 0.0)
    result = squared.copy()
    # What shares nothing with one of them stays as far as it was.
    result[child] = result[:, child] = np.where(np.isnan(away), squared[child], away)
    result[child, child] = 0.0
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
    """A record a parent of each merge; where the changes of only one were added to a base, the base is the other."""
    return tuple(
        Merge(int(family.model_ids[row]), int(family.model_ids[parent]), round(coefficient, 4), merge.method)
        for row, merge in merges.items()
        for parent, coefficient in _shares(merge)
    )


def _shares(merge: Combination) -> list[tuple[int, float]]:
    told = list(zip(merge.parents, merge.coefficients, strict=True))
    if merge.base is not None and len(told) == 1:
        told.append((merge.base, 1 - told[0][1]))
    return told
