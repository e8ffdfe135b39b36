"""Merges that keep some coordinates of each change and drop the others: TIES and DARE.

With r the base and t_i = p_i - r, a merge v has in each coordinate one of few values: v - r is 0, or a multiple of one
t_i, or of what several of them give together (DARE adds them, TIES takes their mean where their signs agree). The
multiple is the same everywhere, so the ratios (v - r) / t_i pile up at one value; in a trained child they are spread.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import TOLERANCES, Combination
from indexer.family import Family
from indexer.relatives import Relatives

__all__ = ["masked_merge"]

_LOOKED_AT: Final = 4096
"""Coordinates, evenly spread."""
_GLANCED_AT: Final = 256
"""Of these, how many show whether a closer look is worth it."""
_BASES: Final = 3
_LEAST_KEPT: Final = 0.02
"""Least share of coordinates at which a merge equals its base, or one multiple of a change."""
_PILE: Final = 0.05
"""Least share of the moved coordinates at which the ratio to one change is the same."""
_WIDTH: Final = (1e-3, 0.03, 0.03)
"""Ratios that differ by less are the same, per precision."""
_CLEAR: Final = (1000.0, 30.0, 30.0)
"""A change of so many units gives a ratio that is precise enough."""
_MOST_PARENTS: Final = 5
_COVERED: Final = 0.99
_CONFIDENCE: Final = 0.93


def masked_merge(family: Family, near: Relatives) -> Combination | None:
    """The row as a base and masked changes of candidates, or None."""
    total = family.samples.shape[1]
    at = np.arange(total) if total <= _LOOKED_AT else np.linspace(0, total - 1, _LOOKED_AT).astype(np.int64)
    few = at[:: max(1, at.size // _GLANCED_AT)]
    glance = np.abs(family.samples[near.row, few] - family.samples[np.ix_(near.candidates, few)]) <= near.unit[few]
    if not (glance.mean(axis=1) >= _LEAST_KEPT / 2).any():
        return None
    tensor = np.searchsorted(family.starts, at, side="right") - 1
    tolerance = TOLERANCES[near.precision][1]
    away = (family.samples[near.row, at] - family.samples[np.ix_(near.candidates, at)]) / near.unit[at]
    same = np.abs(away) <= tolerance
    best: tuple[float, Combination] | None = None
    bases = []
    # A tensor that is one relative's as a whole says nothing: a mask goes through a tensor, freezing goes around it.
    moved = np.stack([np.bincount(tensor, ~each, len(family.elements)) > 0 for each in same])
    open_ = np.asarray(moved.all(axis=0))[tensor]
    for base in range(len(near.candidates)):
        share = float(same[base, open_].mean()) if open_.sum() >= 256 else 0.0
        if _LEAST_KEPT <= share <= 1 - _LEAST_KEPT:
            bases.append((share, base))
    for _, base in sorted(bases, key=lambda each: (-each[0], each[1]))[:_BASES]:
        change = away[base] - away  # (p - base) in units, a row a candidate
        found = _explain(away[base, open_], change[:, open_], base, near, tolerance)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return best[1] if best is not None else None


def _explain(
    moved: NDArray[np.float64], change: NDArray[np.float64], base: int, near: Relatives, tolerance: float
) -> tuple[float, Combination] | None:
    """Share of the moved coordinates (length m) that multiples of few changes (candidates x m) cover, and which."""
    at = np.abs(moved) > tolerance
    moved, change = moved[at], change[:, at]
    piles = []
    for row in range(len(change)):
        pile = _pile(moved, change[row], near.precision) if row != base else None
        if pile is not None:
            piles.append((*pile, row))
    piles = sorted(piles, key=lambda each: (-each[0], each[2]))[:_MOST_PARENTS]
    if not piles:
        return None
    parts = np.stack([factor * change[row] for _, factor, row in piles])
    best: tuple[float, str, NDArray[np.bool_]] | None = None
    for method in ("dare", "ties"):
        covered, members = _cover(moved, parts, method, tolerance)
        share = float(covered.mean())
        if best is None or share > best[0]:
            best = share, method, members[:, covered]
    assert best is not None
    share, method, members = best
    if share < _COVERED:
        return None
    used = [i for i in range(len(piles)) if members[i].mean() >= _LEAST_KEPT]
    if not used:
        return None
    # In a mean each has its part of the factor; a sum was scaled up by what the mask had dropped.
    kept = members.sum(axis=1) / at.size
    coefficients = [piles[i][1] * (1 / len(used) if method == "ties" else float(kept[i])) for i in used]
    order = sorted(range(len(used)), key=lambda i: (-coefficients[i], piles[used[i]][2]))
    rows = [int(near.candidates[piles[used[i]][2]]) for i in order]
    return share, Combination(
        (*rows, int(near.candidates[base])),
        (*(coefficients[i] for i in order), 1 - sum(coefficients)),
        method,
        _CONFIDENCE,
    )


def _pile(moved: NDArray[np.float64], change: NDArray[np.float64], precision: int) -> tuple[float, float] | None:
    """(share of the moved coordinates, value) of the ratio moved / change that comes most often, if one does."""
    clear = np.abs(change) >= _CLEAR[precision]
    if clear.sum() < 128:
        return None
    moved, change = moved[clear], change[clear]
    ratio = moved / change
    order = np.argsort(ratio, kind="stable")
    order = order[ratio[order] > 0.01]
    if not order.size:
        return None
    ahead = np.searchsorted(ratio[order], ratio[order] * (1 + _WIDTH[precision]), side="right") - np.arange(order.size)
    first = int(np.argmax(ahead))
    pile = order[first : first + ahead[first]]
    if pile.size < _PILE * ratio.size:
        return None
    # The largest changes tell the value best, of those that are in the pile by no accident.
    middle = float(np.median(ratio[pile]))
    pile = pile[np.abs(moved[pile] - middle * change[pile]) <= 4 + 1e-5 * np.abs(moved[pile])]
    return pile.size / ratio.size, float(moved[pile] @ change[pile] / (change[pile] @ change[pile]))


def _cover(
    moved: NDArray[np.float64], parts: NDArray[np.float64], method: str, tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which coordinates are what some of the parts (k x m) give together, and (k x m) which parts these are."""
    least = np.full(moved.size, np.inf)
    members = np.zeros(parts.shape, bool)
    for size in range(1, len(parts) + 1):
        for subset in combinations(range(len(parts)), size):
            total = parts[list(subset)].sum(axis=0) / (size if method == "ties" else 1)
            # The factor is known to some parts in a million: an error of the large values.
            error = np.abs(moved - total) / (tolerance + 1e-5 * np.abs(total))
            better = error < np.where(least <= 1, 0.0, least)
            least[better] = error[better]
            members[:, better] = False
            members[np.ix_(np.array(subset), np.flatnonzero(better))] = True
    return least <= 1, members
