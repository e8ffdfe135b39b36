"""Models that were merged from others: linear combinations, task arithmetic, SLERP, TIES and DARE.

A merge is computed, so a few relatives explain it up to rounding, which they never do for a trained child. Each model
is screened by one least-squares fit on its likely relatives over some coordinates; what passes is fitted again with
few parents, over all coordinates.

Linear dependence has no direction by itself: if m = (p + q) / 2 then p = 2m - q. A merge is taken to be the one that
lies between the others (a convex combination of them); merges are explained by models that are none where that can be.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.answered import Answered, lists_of
from indexer.combination import Combination
from indexer.family import Family
from indexer.layered import layered_merge
from indexer.linear_merges import FITS, linear_merges
from indexer.links import pieces
from indexer.masked import masked_merge
from indexer.memo import Memo
from indexer.pile_memory import KIND
from indexer.relatives import Candidates, Relatives, all_relatives, depends
from indexer.sparse import Matrix, Sparse, reached

__all__ = ["find_merges"]

_CENTRAL: Final = 6
"""So many most central models, among which a base is likely, are candidates of all others."""


def find_merges(
    family: Family, squared: Matrix, central: NDArray[np.int64] | None = None, memo: Memo | None = None
) -> dict[int, Combination]:
    """Row -> how it was merged, over one component; `squared` is n x n. No model is its own ancestor by merges.

    `central` are the most central rows, first first; all of `squared` is asked for them where they are not given.
    """
    if len(family) < 3:
        return {}
    if central is None:
        central = np.argsort(np.asarray(squared).mean(axis=1), kind="stable")
    central = central[:_CENTRAL]
    memo = memo or Memo()
    every = all_relatives(family, squared, central, memo)
    asked = _Asked(every, memo, Answered(family, memo) if isinstance(squared, Sparse) else None)
    relatives = (every.rows >= 0).sum(axis=1) >= 2
    flat = asked.depending(relatives)
    memo.want(family.content_hashes[row] for row in flat)
    found: dict[int, Combination] = {}
    for group in _groups(squared, flat):
        found |= _remembered_merges(family, squared, group, memo)
    others = relatives.copy()
    others[list(flat)] = False
    curved = asked.curved(others, set(found))
    merges = set(found) | set(curved)
    linear = set(found)
    for row in sorted(curved):
        # Of models that are no merges where that can be, else of merges.
        if merges & set(curved[row].sources):
            again = _curved(family, every.of(row), merges, memo, "again")
            if again is not None:
                curved[row] = again
    if linear:
        # With the same candidates the answer would be the same.
        others &= asked.with_any(linear)
        others[list(curved)] = False
        curved |= asked.curved(others, set(), "again")
    for row, merge in sorted(curved.items()):
        if not any(row in _above(found, parent) for parent in merge.sources):
            found[row] = merge
    return dict(sorted(found.items()))


class _Asked:
    """What is asked of each model by itself: with nearly all it is known that they are no merges, and told for all of
    them at a time by what is `answered`."""

    def __init__(self, every: Candidates, memo: Memo, answered: Answered | None) -> None:
        self._every, self._memo, self._answered = every, memo, answered
        self._contents = every.family.content_hashes

    def with_any(self, rows: set[int]) -> NDArray[np.bool_]:
        """n: which have one of these rows as a candidate."""
        among = np.zeros(len(self._every.rows) + 1, bool)
        among[list(rows)] = True
        return np.asarray(among[self._every.rows].any(axis=1))

    def depending(self, which: NDArray[np.bool_]) -> dict[int, Relatives]:
        """Those of these rows whose candidates may explain them."""
        told, known, answers = self._told("depends", self._every.rows, which)

        def holds(row: int) -> bool:
            return _depends(self._every.family, self._every.of(row), self._memo)

        rows = self._unknown(which & ~known)
        self._memo.ahead(rows, lambda some: [holds(row) for row in some])
        for row in rows:
            answers[row] = holds(row)
        self._keep("depends", told, answers, which)
        return {row: self._every.of(row) for row in np.flatnonzero(which & answers).tolist()}

    def curved(self, which: NDArray[np.bool_], barred: set[int], again: str = "") -> dict[int, Combination]:
        """Those of these rows that are a merge of candidates that are not barred."""
        rows = self._every.rows
        among = np.zeros(len(rows) + 1, bool)
        among[list(barred)] = True
        kept = np.where(among[rows], -1, rows)
        kept = np.take_along_axis(kept, np.argsort(kept < 0, axis=1, kind="stable"), axis=1)
        kind = f"curved {again}".strip()
        # The nearest has a say in units, also where it is barred.
        told, known, _ = self._told(kind, np.column_stack([kept, self._every.nearest]), which)

        def merged(row: int) -> Combination | None:
            return _curved(self._every.family, self._every.of(row), barred, self._memo, again)

        asked = self._unknown(which & ~known)
        self._memo.ahead(asked, lambda some: [merged(row) for row in some])
        found = {row: merge for row in asked if (merge := merged(row)) is not None}
        none = which.copy()
        none[list(found)] = False
        self._keep(kind, told, np.zeros(len(rows), bool), none)
        return found

    def _unknown(self, which: NDArray[np.bool_]) -> list[int]:
        rows: list[int] = np.flatnonzero(which).tolist()
        self._memo.want(self._contents[row] for row in rows)
        return rows

    def _told(
        self, kind: str, rows: NDArray[np.int64], which: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.bool_]]:
        """(digests of these inputs, n: whose answer is known, n answers)."""
        n = len(rows)
        if self._answered is None:
            return np.zeros((n, 2), np.uint64), np.zeros(n, bool), np.zeros(n, bool)
        told = self._answered.digests(*lists_of(rows))
        return told, *self._answered.known(f"{kind} of all", told, np.dtype(bool))

    def _keep(self, kind: str, told: NDArray[np.uint64], answers: NDArray[np.bool_], which: NDArray[np.bool_]) -> None:
        if self._answered is not None:
            self._answered.keep(f"{kind} of all", told, answers, which)


def _depends(family: Family, near: Relatives, memo: Memo) -> bool:
    asked = family.content_keys[near.candidates].tobytes()
    return memo.is_so("depends", family.content_hashes[near.row], asked, lambda: depends(family, near))


def _curved(family: Family, near: Relatives, barred: set[int], memo: Memo, again: str = "") -> Combination | None:
    """A merge with shares of their own in each layer or coordinate, of candidates that are not barred."""
    kept = near.candidates
    if not barred.isdisjoint(kept.tolist()):
        kept = np.array([c for c in kept.tolist() if c not in barred], np.int64)
        near = replace(near, candidates=kept)
    if len(kept) < 2:
        return None

    def compute() -> bytes:
        found = layered_merge(family, near) or masked_merge(family, near, None if again else memo)
        return b"" if found is None else _told({near.row: found}, kept)

    content = family.content_hashes[near.row]
    # The nearest has a say in units, also where it is barred.
    asked = family.content_keys[[*kept.tolist(), near.nearest]].tobytes()
    digest, answer = memo.look(f"curved {again}".strip(), content, asked)
    if answer is None:
        answer = memo.keep(f"curved {again}".strip(), content, digest, compute())
    elif not again:
        memo.hold_on(KIND, content, "curved")
    return next(iter(_heard(answer, near.row, kept).values()), None)


def _told(merges: dict[int, Combination], rows: NDArray[np.int64]) -> bytes:
    """As JSON, with the places among `rows` of those that they were made of."""
    place = {int(row): at for at, row in enumerate(rows)}
    told = []
    for row, merge in merges.items():
        base = None if merge.base is None else place[merge.base]
        parents = [place[parent] for parent in merge.parents]
        told.append((place.get(row, -1), parents, merge.coefficients, merge.method, merge.confidence, base))
    return json.dumps(told).encode()


def _heard(answer: bytes, own: int, rows: NDArray[np.int64]) -> dict[int, Combination]:
    """What `_told` has told; a merge that is none of the rows is `own`."""
    merges = {}
    for at, parents, coefficients, method, confidence, base in json.loads(answer) if answer else ():
        made_of = tuple(int(rows[parent]) for parent in parents)
        base = None if base is None else int(rows[base])
        merges[int(rows[at]) if at >= 0 else own] = Combination(made_of, tuple(coefficients), method, confidence, base)
    return merges


def _groups(squared: Matrix, dependent: dict[int, Relatives]) -> list[dict[int, Relatives]]:
    """Rows that others explain, with those that have a say in whether they are merges: candidates and what is near."""
    around = {row: {*near.candidates.tolist(), *reached(squared, row)[0].tolist()} for row, near in dependent.items()}
    links = [(row, other) for row, rows in around.items() for other in rows if other in dependent]
    return [{row: dependent[row] for row in sorted(group)} for group in pieces(sorted(dependent), links)]


def _remembered_merges(
    family: Family, squared: Matrix, group: dict[int, Relatives], memo: Memo
) -> dict[int, Combination]:
    """`linear_merges` of a group."""
    seen = {row for each in group for row in reached(squared, each)[0].tolist()}
    rows = np.array(sorted(seen | group.keys() | {c for near in group.values() for c in near.candidates.tolist()}))
    places = {int(row): at for at, row in enumerate(rows)}
    shape = json.dumps([(places[row], [places[c] for c in near.candidates.tolist()]) for row, near in group.items()])
    around = json.dumps([[places[row] for row in reached(squared, each)[0].tolist()] for each in group])
    asked = family.content_keys[rows].tobytes() + f"{shape}{around}".encode()
    first = family.content_hashes[min(group)]
    digest, answer = memo.look("linear", first, asked)
    if answer is None:
        answer = memo.keep("linear", first, digest, _told(linear_merges(family, squared, group, memo), rows))
    else:
        for row in group:
            memo.hold_on(FITS, family.content_hashes[row])
    return _heard(answer, -1, rows)


def _above(found: dict[int, Combination], row: int) -> set[int]:
    """The row and all that it was merged from, directly or not."""
    seen, ahead = {row}, [row]
    while ahead:
        at = ahead.pop()
        more = [p for p in found[at].sources if p not in seen] if at in found else []
        seen.update(more)
        ahead += more
    return seen
