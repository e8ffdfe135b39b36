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

from indexer.combination import Combination
from indexer.family import Family
from indexer.layered import layered_merge
from indexer.linear_merges import FITS, linear_merges
from indexer.links import pieces
from indexer.masked import masked_merge
from indexer.memo import Memo
from indexer.pile_memory import KIND
from indexer.relatives import Relatives, all_relatives, depends
from indexer.sparse import Matrix, reached

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
    relatives = {row: found for row, found in every.items() if len(found.candidates) >= 2}
    flat = {row: near for row, near in relatives.items() if _depends(family, near, memo)}
    found: dict[int, Combination] = {}
    for group in _groups(squared, flat):
        found |= _remembered_merges(family, squared, group, memo)
    others = {row: near for row, near in relatives.items() if row not in flat}
    curved = {
        row: merge for row, near in others.items() if (merge := _curved(family, near, set(found), memo)) is not None
    }
    merges = set(found) | set(curved)
    linear = set(found)
    for row, near in others.items() if merges else ():
        # Of models that are no merges where that can be, else of merges.
        if row in curved:
            retry = bool(merges & set(curved[row].sources))
        else:
            # With the same candidates the answer would be the same.
            retry = not linear.isdisjoint(near.candidates.tolist())
        if retry:
            again = _curved(family, near, merges if row in curved else set(), memo, "again")
            if again is not None:
                curved[row] = again
    for row, merge in sorted(curved.items()):
        if not any(row in _above(found, parent) for parent in merge.sources):
            found[row] = merge
    return dict(sorted(found.items()))


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
        memo.hold_on(KIND, content)
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
