"""Bit-equal copies: one of them is the original, the others hang on it. Weights alone cannot say which it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.metadata import CLAIM_RIGHT, Metadata, declared_rows, order_log_odds, upload_evidence
from store.records import Edge, Evidence

__all__ = ["Copies", "group_copies"]

CLAIMED_COPY: Final = 0.999
"""Probability of a claim whose base is bit-equal: a wrong card does not name the one such model by chance."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Bit-equal models, by row of their family."""

    original: int
    confidence: float
    """That `original` is the original."""
    parents: dict[int, int]
    """Each other row -> the one it was copied from."""
    declared: dict[int, tuple[int, ...]]
    """Row -> the rows of the group that its card names; empty when metadata is not allowed."""


class Copies:
    """The bit-equal copies in a family.

    The original of some is the first name: with metadata, what cards declare comes before that, and then the earliest
    upload.
    """

    def __init__(self, family: Family, metadata: Metadata | None = None) -> None:
        self._family, self._allowed = family, metadata is not None
        self._groups = _groups(family, metadata)

    def by_original(self) -> dict[int, list[int]]:
        """Original row -> rows of its copies, in rising order; of a model without copies, none."""
        copies = {g.original: sorted(g.parents) for g in self._groups}
        others = {row for rows in copies.values() for row in rows}
        return {row: copies.get(row, []) for row in range(len(self._family)) if row not in others}

    def edges(self) -> list[Edge]:
        """The edges of all copies: onto the copy that its card declares, else onto the original."""
        return [
            _copy_edge(self._family, group, child, self._allowed) for group in self._groups for child in group.parents
        ]


def group_copies(family: Family, metadata: Metadata | None = None) -> dict[int, list[int]]:
    """`Copies.by_original`."""
    return Copies(family, metadata).by_original()


def _groups(family: Family, metadata: Metadata | None) -> list[_Group]:
    """Those of more than one model, sorted by original."""
    bases = declared_rows(family.names, metadata) if metadata is not None else ((),) * len(family)
    found = []
    for rows in _of_equal_content(family):
        at = {row: place for place, row in enumerate(rows)}
        declared = {row: near for row in rows if (near := tuple(base for base in bases[row] if base in at))}
        chances = _originality(
            family.created[rows] if metadata is not None else np.full(len(rows), np.nan),
            [[at[base] for base in declared.get(row, ())] for row in rows],
        )
        ranked = [(-chance.round(9), family.names[row], row) for row, chance in zip(rows, chances, strict=True)]
        original = min(ranked)[2]
        parents = {row: original for row in rows if row != original}
        for row in parents:
            base = next(iter(declared.get(row, ())), original)
            if not _reaches(parents, base, row):
                parents[row] = base
        found.append(_Group(original, float(chances[at[original]]), parents, declared))
    return sorted(found, key=lambda group: group.original)


def _of_equal_content(family: Family) -> list[list[int]]:
    """Rows of each content that several models have, in rising order."""
    keys = family.content_keys.view(np.uint64).reshape(-1, 2)
    order = np.lexsort(keys.T)
    last = np.append((keys[order[1:]] != keys[order[:-1]]).any(axis=1), True)
    ends = np.flatnonzero(last) + 1
    starts = np.append(0, ends[:-1])
    several = ends - starts > 1
    return [order[a:b].tolist() for a, b in zip(starts[several], ends[several], strict=True)]


def _originality(created: NDArray[np.float64], declared: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """n: how likely each of n bit-equal models is the original.

    `created` is n, NaN where unknown; `declared` is n, the rows that each card names. Dates are one piece of evidence
    and not n - 1: an original that was uploaded again later is later than every copy for one and the same reason.
    """
    n = len(created)
    if n == 1:
        return np.ones(1)
    score = np.zeros(n)
    dated = np.isfinite(created)
    if dated.sum() > 1:
        first, second = np.sort(created[dated])[:2]
        earliest_other = np.where(created == first, second, first)
        score -= np.logaddexp(0.0, -order_log_odds((earliest_other - created) / 86_400))
    for row, bases in enumerate(declared):
        if bases:
            named = np.zeros(n, bool)
            named[list(bases)] = True
            # A copy's card names the original, or another copy; the original's own names none of its copies.
            score += np.log(np.where(named, CLAIM_RIGHT / len(bases), (1 - CLAIM_RIGHT) / (n - len(bases))))
            score[row] += np.log((1 - CLAIMED_COPY) / (1 - CLAIM_RIGHT))
    chance = np.exp(score - score.max())
    return np.asarray(chance / chance.sum())


def _reaches(parents: dict[int, int], row: int, target: int) -> bool:
    while row != target and row in parents:
        row = parents[row]
    return row == target


def _copy_edge(family: Family, group: _Group, child: int, allowed: bool) -> Edge:
    parent = group.parents[child]
    days = float(family.created[child] - family.created[parent]) / 86_400
    order = float(order_log_odds(np.array(days))) if allowed else 0.0
    claim = float(np.log(CLAIMED_COPY / (1 - CLAIMED_COPY)))
    claimed = group.declared.get(child, ())
    confidence = group.confidence
    if parent in claimed:
        confidence = float(1 / (1 + np.exp(-(claim + order))))
    says = "all tensors are bit-equal"
    if not order and parent not in claimed:
        says += "; which was first, weights cannot tell"
    evidence = [Evidence("content_hash", 1.0, 0.0, says)]
    if order:
        evidence.append(upload_evidence(days, order))
    if parent in claimed:
        evidence.append(Evidence("claim", 1.0, claim, f"the card declares {family.names[parent]} as its base"))
    elif claimed:
        named = ", ".join(family.names[row] for row in claimed)
        evidence.append(
            Evidence("claim", -1.0, -claim, f"the card declares {named}, which is rather a copy of this model")
        )
    return Edge(
        child_id=int(family.model_ids[child]),
        parent_id=int(family.model_ids[parent]),
        relation="copy",
        distance=0.0,
        confidence=confidence,
        runner_up_id=None,
        runner_up_confidence=None,
        evidence=tuple(evidence),
    )
