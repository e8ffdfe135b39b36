"""Which models are linear combinations of others, and which of a set that depends on one another is the merge.

Linear dependence has no direction by itself: if m = (p + q) / 2 then p = 2m - q. A merge is taken to be the one that
lies between the others (a convex combination of them); merges are explained by models that are none where that can be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from blake3 import blake3

from indexer.combination import Combination, Fit
from indexer.family import Family
from indexer.linear import convex_fit, fit_row, holds, sparse_fit
from indexer.memo import Memo
from indexer.relatives import Relatives
from indexer.sparse import Matrix

__all__ = ["FITS", "linear_merges"]

FITS: Final = "fits"
"""Kind of what is remembered."""

_SQUARE: Final = 0.05
"""Cosines that differ by less say nothing."""
_CONVEX: Final = 0.97
_TASK: Final = 0.9
_EITHER: Final = 0.5
"""Confidences: one of several lies between the others; a base and what was added to it, which other models tell
apart; the same where none does."""


def linear_merges(
    family: Family, squared: Matrix, dependent: dict[int, Relatives], memo: Memo
) -> dict[int, Combination]:
    """Which of the rows that the others explain are merges, and of what."""
    asked = _Fits(family, dependent, memo)
    between = {row for row in dependent if asked.convex(row, set()) is not None}
    found: dict[int, Combination] = {}
    found.update(_settle(asked, sorted(between), between))
    taken = set(between)
    fits: dict[int, Fit | None] = {}
    while True:
        for row in sorted(dependent.keys() - taken):
            known = fits.get(row)
            if row not in fits or (known is not None and taken & set(known.parents)):
                fits[row] = asked.sparse(row, taken)
        circuits = {frozenset((row, *fit.parents)) for row, fit in fits.items() if fit is not None and row not in taken}
        told = (
            _corner(family, squared, dependent, circuit, taken)
            for circuit in sorted(circuits, key=lambda c: (len(c), sorted(c)))
        )
        chosen = next((each for each in told if each is not None), None)
        if chosen is None:
            break
        found[chosen[0]] = chosen[1]
        taken.add(chosen[0])
    for row, merge in list(found.items()):
        # What lies between a base and another merge of it was more likely made of the same parts.
        if taken & set(merge.sources):
            fit = asked.convex(row, taken) or asked.sparse(row, taken)
            if fit is not None and (min(fit.coefficients) > 0 or _base_of(fit) is not None):
                found[row] = _combination(fit, _TASK if min(fit.coefficients) < 0 else _CONVEX)
    asked.keep()
    return found


class _Fits:
    """Fits of rows on their candidates, as `indexer.linear` makes them, which a memory may know; those have no errors.

    A row is asked of several times, and differently by who may be no parent: all answers are kept.
    """

    def __init__(self, family: Family, dependent: Mapping[int, Relatives], memo: Memo) -> None:
        self._family, self._dependent, self._memo = family, dependent, memo
        self._known = {row: self._read(row) for row in dependent}
        self._used: dict[int, dict[str, Any]] = {row: {} for row in dependent}

    def _read(self, row: int) -> dict[str, Any]:
        held = bytes(self._memo.held(FITS, self._family.content_hashes[row]))
        return dict(json.loads(held)) if held else {}

    def convex(self, row: int, barred: set[int]) -> Fit | None:
        return self._fit("convex", convex_fit, row, barred)

    def sparse(self, row: int, barred: set[int]) -> Fit | None:
        return self._fit("sparse", sparse_fit, row, barred)

    def keep(self) -> None:
        """Note what was asked for the next update."""
        for row, told in self._used.items():
            self._memo.hold(FITS, self._family.content_hashes[row], json.dumps(told, sort_keys=True).encode())

    def _fit(
        self, kind: str, fit: Callable[[Family, Relatives, set[int]], Fit | None], row: int, barred: set[int]
    ) -> Fit | None:
        near = self._dependent[row]
        candidates = near.candidates.tolist()
        # The nearest has a say in units.
        keys = self._family.content_keys[[*candidates, near.nearest]].tobytes()
        asked = blake3(kind.encode() + bytes(c not in barred for c in candidates) + keys).hexdigest(16)
        if asked in self._known[row]:
            told = self._known[row][asked]
        else:
            found = fit(self._family, near, barred)
            told = None if found is None else [[candidates.index(p) for p in found.parents], list(found.coefficients)]
        self._known[row][asked] = self._used[row][asked] = told
        if told is None:
            return None
        places, coefficients = told
        return Fit(tuple(candidates[at] for at in places), tuple(coefficients), np.empty(0))


def _settle(asked: _Fits, between: Sequence[int], merges: set[int]) -> dict[int, Combination]:
    """Merges of models that are none first, then merges of those."""
    found: dict[int, Combination] = {}
    barred = set(merges)
    while True:
        settled = {}
        for row in between:
            fit = None if row in found else asked.convex(row, barred)
            if fit is not None:
                settled[row] = _combination(fit, _CONVEX)
        if not settled:
            return found
        found |= settled
        barred -= settled.keys()


def _combination(fit: Fit, confidence: float) -> Combination:
    base = _base_of(fit)
    order = sorted(range(len(fit.parents)), key=lambda i: (-fit.coefficients[i], fit.parents[i]))
    order = [i for i in order if fit.parents[i] != base]
    return Combination(
        tuple(fit.parents[i] for i in order),
        tuple(fit.coefficients[i] for i in order),
        "linear" if base is None else "task_arithmetic",
        confidence,
        base,
    )


def _base_of(fit: Fit) -> int | None:
    """The one parent with a negative coefficient, from which the others were taken off; None when that is no story."""
    negative = [i for i, c in enumerate(fit.coefficients) if c < 0]
    added = [c for c in fit.coefficients if c > 0]
    return fit.parents[negative[0]] if len(negative) == 1 and len(added) >= 2 and max(added) <= 1.05 else None


def _corner(
    family: Family,
    squared: Matrix,
    dependent: dict[int, Relatives],
    circuit: frozenset[int],
    taken: set[int],
) -> tuple[int, Combination] | None:
    """Which row of a dependent set is a base plus what was added to it.

    Models trained from the base move independently, so seen from it they lie at right angles; seen from the merge they
    lie apart. Where both fit, as in a rectangle, the merge is the corner that no other model is attached to.
    """
    stories = []
    for row in sorted(circuit & dependent.keys()):
        fit = fit_row(family, dependent[row], tuple(sorted(circuit - {row})))
        base = _base_of(fit)
        if base is not None and holds(family, dependent[row], fit):
            stories.append((_narrowest(squared, base, circuit - {row, base}), row, fit))
    if not stories:
        return None
    square = max(cosine for cosine, _, _ in stories)
    stories = [story for story in stories if story[0] >= square - _SQUARE]
    outside = np.setdiff1d(np.arange(len(squared)), [*circuit, *taken])
    far = {row: float(np.sqrt(squared[row][outside].min(initial=np.inf))) for _, row, _ in stories}
    far = {row: away if outside.size else 0.0 for row, away in far.items()}
    _, row, fit = max(stories, key=lambda story: (far[story[1]], -story[1]))
    others = [far[each] for _, each, _ in stories if each != row]
    clear = not others or (outside.size > 0 and far[row] > 1.05 * max(others))
    return row, _combination(fit, _TASK if clear else _EITHER)


def _narrowest(squared: Matrix, base: int, rows: frozenset[int]) -> float:
    """Least cosine between two of the rows as seen from the base, 0 where none is negative."""
    least = 0.0
    for a in rows:
        for b in rows:
            if a < b and squared[base, a] > 0 and squared[base, b] > 0:
                inner = (squared[base, a] + squared[base, b] - squared[a, b]) / 2
                least = min(least, float(inner / np.sqrt(squared[base, a] * squared[base, b])))
    return least
