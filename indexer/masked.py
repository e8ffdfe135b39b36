"""Merges that keep some coordinates of each change and drop the others: TIES and DARE.

With r the base and t_i = p_i - r, a merge v has in each coordinate one of few values: v - r is 0, or a multiple of one
t_i, or of what several of them give together (DARE adds them, TIES takes their mean where their signs agree). The
multiple is the same everywhere, so the ratios (v - r) / t_i pile up at one value (`indexer.piles`); in a trained child
they are spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import TOLERANCES, Combination
from indexer.family import Family
from indexer.memo import Memo
from indexer.pile_memory import PileMemory
from indexer.piles import GLIMPSE, Differences, find_piles, largest_pile
from indexer.relatives import Relatives

__all__ = ["masked_merge"]

_LOOKED_AT: Final = 4096
"""Coordinates, evenly spread."""
_GLANCED_AT: Final = 256
"""Of these, how many show whether a closer look is worth it; and how many of tensors that a mask goes through."""
_BASES: Final = 3
_LEAST_KEPT: Final = 0.02
"""Least share of coordinates at which a merge equals its base, or one multiple of a change."""
_MOST_PARENTS: Final = 5
_COVERED: Final = 0.99
_CONFIDENCE: Final = 0.93

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Story:
    """A base (position among the candidates), what was added to it, and the share of moved coordinates it covers."""

    covered: float
    base: int
    parts: tuple[int, ...]
    coefficients: tuple[float, ...]
    method: str


def masked_merge(family: Family, near: Relatives, memo: Memo | None = None) -> Combination | None:
    """The row as a base and masked changes of candidates, or None.

    What `memo` knows of the row and some of the candidates is not worked out again.
    """
    total = family.samples.shape[1]
    at = np.arange(total) if total <= _LOOKED_AT else np.linspace(0, total - 1, _LOOKED_AT).astype(np.int64)
    few = at[:: max(1, at.size // _GLANCED_AT)]
    glance = np.abs(family.samples[near.row, few] - family.samples[np.ix_(near.candidates, few)]) <= near.units_at(few)
    if not (glance.mean(axis=1) >= _LEAST_KEPT / 2).any():
        return None
    # The first of them tell of all tensors.
    story = _story(family, near, np.concatenate([at[first::GLIMPSE] for first in range(GLIMPSE)]), memo)
    if story is None:
        return None
    # Again with every coordinate, of which two or three relatives are all that is looked at.
    kept = near.candidates[[*story.parts, story.base]]
    story = _story(family, replace(near, candidates=kept), np.arange(total))
    if story is None:
        return None
    order = sorted(range(len(story.parts)), key=lambda i: (-story.coefficients[i], int(kept[story.parts[i]])))
    return Combination(
        tuple(int(kept[story.parts[i]]) for i in order),
        tuple(story.coefficients[i] for i in order),
        story.method,
        _CONFIDENCE,
        int(kept[story.base]),
    )


def _story(family: Family, near: Relatives, at: Ints, memo: Memo | None = None) -> _Story | None:
    """The base and parts that cover most, by the coordinates `at`."""
    every = np.arange(len(near.candidates))
    tolerance = TOLERANCES[near.precision][1]
    seen = Differences(family, near, at)
    known = PileMemory(memo, near)
    seen.look(known.new)
    whole = bool(seen.through().all())
    if not whole:
        known = PileMemory(None, near)
        seen.look(every)
    through = seen.through()
    if through.sum() < _GLANCED_AT:
        return None
    away = seen.away if whole else seen.away[:, through]
    equal = known.equal.copy()
    equal[known.new] = (np.abs(away[known.new]) <= tolerance).sum(axis=1)
    piled = np.zeros((_BASES, len(every)), bool)
    stories: list[_Story | None] = []
    for rank, base in enumerate(_bases(equal, away.shape[1])):
        before = known.rank(_bases(known.before, away.shape[1]), base)
        had, same = known.piled(before)
        asked = known.new if before >= 0 else every
        if whole:
            seen.look(np.append(asked, base))
        found = find_piles(away, base, asked, near.precision)
        piled[rank, [*had.tolist(), *found]] = True
        if same and not found and known.failed[before]:
            stories.append(None)
            continue
        if whole:
            seen.look(had)
        found |= find_piles(away, base, had, near.precision)
        stories.append(_explain(away, base, found, near, family))
    if whole and memo is not None:
        known.hold(equal, piled, [story is None for story in stories])
    told = [story for story in stories if story is not None]
    # A mean with the base as one more part, seen from anywhere else, is the same merge.
    best = max((story.covered for story in told), default=0.0)
    told = [story for story in told if story.covered >= best - (1 - _COVERED) / 2]
    return min(told, key=lambda story: (len(story.parts), -story.covered), default=None)


def _bases(equal: Ints, size: int) -> list[int]:
    """The candidates that equal the row at most of so many coordinates, but neither at nearly all nor at hardly any."""
    shares = equal / size
    found = [int(b) for b in np.argsort(-shares, kind="stable") if _LEAST_KEPT <= shares[b] <= 1 - _LEAST_KEPT]
    return found[:_BASES]


def _explain(
    away: Floats, base: int, found: Mapping[int, tuple[float, float]], near: Relatives, family: Family
) -> _Story | None:
    """Which candidates' changes, as seen from the base, give the coordinates at which the row is not the base.

    `away` is candidates x m: the row less each of them, in units. `found` are the candidates with piles.
    """
    tolerance = TOLERANCES[near.precision][1]
    at = np.abs(away[base]) > tolerance
    moved, total = away[base, at], at.size
    change = {row: (away[base] - away[row])[at] for row in found}
    keys = family.content_keys[near.candidates]
    by_size = sorted(((*pile, row) for row, pile in found.items()), key=lambda each: (-each[0], bytes(keys[each[2]])))
    piles = _apart(moved, change, by_size, tolerance)
    if not piles:
        return None
    parts = np.stack([factor * change[row] for _, factor, row in piles])
    best: tuple[float, str, Floats, NDArray[np.bool_]] | None = None
    weighed = _weights(moved, parts, near.precision)
    for method, weights in (("dare", None), ("ties", np.ones(len(parts))), ("ties", weighed)):
        covered, members = _cover(moved, parts, weights, tolerance)
        if best is None or covered.mean() > best[0] + 1e-3:
            weights = members.sum(axis=1) / total if weights is None else weights
            best = float(covered.mean()), method, weights, members[:, covered]
    assert best is not None
    share, method, weights, members = best
    used = [i for i in range(len(piles)) if members[i].mean() >= _LEAST_KEPT]
    if share < _COVERED or not used:
        return None
    # In a mean each has its part of the factor; a sum was scaled up by what the mask had dropped.
    whole = weights[used].sum() if method == "ties" else 1.0
    coefficients = tuple(float(piles[i][1] * weights[i] / whole) for i in used)
    return _Story(share, base, tuple(piles[i][2] for i in used), coefficients, method)


def _apart(
    moved: NDArray[np.float64],
    change: Mapping[int, NDArray[np.float64]],
    piles: list[tuple[float, float, int]],
    tolerance: float,
) -> list[tuple[float, float, int]]:
    """The piles, largest first, but for those of coordinates that larger ones have: other merges of the same parts."""
    left = np.ones(moved.size, bool)
    kept: list[tuple[float, float, int]] = []
    for pile in piles:
        part = pile[1] * change[pile[2]]
        alone = left & (np.abs(moved - part) <= tolerance + 1e-5 * np.abs(part))
        if alone.mean() >= _LEAST_KEPT and len(kept) < _MOST_PARENTS:
            kept.append(pile)
            left &= ~alone
    return kept


def _weights(moved: NDArray[np.float64], parts: NDArray[np.float64], precision: int) -> NDArray[np.float64]:
    """What each part (k x m) weighs in a mean beside the first, from the coordinates that none of them gives alone."""
    weights = np.ones(len(parts))
    mixed = (np.abs(moved - parts) > TOLERANCES[precision][1] + 1e-5 * np.abs(parts)).all(axis=0)
    for i in range(1, len(parts)):
        pile = largest_pile((moved - parts[0])[mixed], (parts[i] - parts[0])[mixed], precision)
        if pile is not None and 0 < pile[1] < 1:
            weights[i] = pile[1] / (1 - pile[1])
    return weights


def _cover(
    moved: NDArray[np.float64], parts: NDArray[np.float64], weights: NDArray[np.float64] | None, tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which coordinates are the sum (`weights` None) or the mean of some of the parts (k x m), and of which (k x m)."""
    least = np.full(moved.size, np.inf)
    members = np.zeros(parts.shape, bool)
    for size in range(1, len(parts) + 1):
        for subset in combinations(range(len(parts)), size):
            rows = np.array(subset)
            among = parts[rows]
            total = among.sum(axis=0) if weights is None else weights[rows] @ among / weights[rows].sum()
            # Factors are known to some parts in a million: an error of the large values.
            error = np.abs(moved - total) / (tolerance + 1e-5 * np.abs(among).max(axis=0))
            better = error < np.where(least <= 1, 0.0, least)
            least[better] = error[better]
            members[:, better] = False
            members[np.ix_(rows, np.flatnonzero(better))] = True
    return least <= 1, members
