"""Merges that keep some coordinates of each change and drop the others: TIES and DARE.

With r the base and t_i = p_i - r, a merge v has in each coordinate one of few values: v - r is 0, or a multiple of one
t_i, or of what several of them give together (DARE adds them, TIES takes their mean where their signs agree). The
multiple is the same everywhere, so the ratios (v - r) / t_i pile up at one value; in a trained child they are spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numba import njit
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
_NARROW: Final = 0.01
_LEAST_RATIO: Final = 0.01
_MOST_RATIO: Final = 1e4
"""Parts of a merge weigh no less; larger ones count as one pile where piles are only guessed at."""
_CLEAR: Final = (1000.0, 30.0, 30.0)
"""A change of so many units gives a ratio that is precise enough."""
_LEAST_CLEAR: Final = 40
_GLIMPSE: Final = 4
_FAINT: Final = 0.7
"""Of one coordinate in _GLIMPSE, a pile is at least this part of _PILE, or is not looked for."""
_MOST_PARENTS: Final = 5
_COVERED: Final = 0.99
_CONFIDENCE: Final = 0.93


@dataclass(frozen=True, slots=True)
class _Story:
    """A base (position among the candidates), what was added to it, and the share of moved coordinates it covers."""

    covered: float
    base: int
    parts: tuple[int, ...]
    coefficients: tuple[float, ...]
    method: str


def masked_merge(family: Family, near: Relatives) -> Combination | None:
    """The row as a base and masked changes of candidates, or None."""
    total = family.samples.shape[1]
    at = np.arange(total) if total <= _LOOKED_AT else np.linspace(0, total - 1, _LOOKED_AT).astype(np.int64)
    few = at[:: max(1, at.size // _GLANCED_AT)]
    glance = np.abs(family.samples[near.row, few] - family.samples[np.ix_(near.candidates, few)]) <= near.unit[few]
    if not (glance.mean(axis=1) >= _LEAST_KEPT / 2).any():
        return None
    # The first of them tell of all tensors.
    story = _story(family, near, np.concatenate([at[first::_GLIMPSE] for first in range(_GLIMPSE)]))
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


def _story(family: Family, near: Relatives, at: NDArray[np.int64]) -> _Story | None:
    """The base and parts that cover most, by the coordinates `at`."""
    tensor = np.searchsorted(family.starts, at, side="right") - 1
    tolerance = TOLERANCES[near.precision][1]
    rows = family.samples.rows
    away, moved = _in_units(
        family.samples.held,
        rows[near.row],
        rows[near.candidates],
        at,
        near.unit,
        tensor,
        len(family.elements),
        tolerance,
    )
    # A tensor that is one relative's as a whole says nothing: a mask goes through a tensor, freezing goes around it.
    through = np.asarray(moved.all(axis=0))[tensor]
    if through.sum() < 256:
        return None
    if not through.all():
        away = away[:, through]
    shares = (np.abs(away) <= tolerance).mean(axis=1)
    bases = [int(b) for b in np.argsort(-shares, kind="stable") if _LEAST_KEPT <= shares[b] <= 1 - _LEAST_KEPT]
    told = (_explain(away, base, near.precision) for base in bases[:_BASES])
    stories = [story for story in told if story is not None]
    # A mean with the base as one more part, seen from anywhere else, is the same merge.
    best = max((story.covered for story in stories), default=0.0)
    stories = [story for story in stories if story.covered >= best - (1 - _COVERED) / 2]
    return min(stories, key=lambda story: (len(story.parts), -story.covered), default=None)


@njit(cache=True, nogil=True, error_model="numpy")
def _in_units(
    samples: NDArray[Any],
    row: int,
    candidates: NDArray[np.int64],
    at: NDArray[np.int64],
    unit: NDArray[np.float64],
    tensor: NDArray[np.int64],
    tensors: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(k x m: the row less each candidate at m coordinates, in units; k x T: whether a tensor differs there)."""
    # Units are powers of two: their inverses are exact.
    own, share = samples[row][at].astype(np.float64), 1.0 / unit[at]
    away = np.empty((candidates.size, at.size))
    moved = np.zeros((candidates.size, tensors), np.bool_)
    for i in range(candidates.size):
        for j in range(at.size):
            value = (own[j] - np.float64(samples[candidates[i], at[j]])) * share[j]
            away[i, j] = value
            moved[i, tensor[j]] |= not abs(value) <= tolerance
    return away, moved


def _explain(away: NDArray[np.float64], base: int, precision: int) -> _Story | None:
    """Which candidates' changes, as seen from the base, give the coordinates at which the row is not the base.

    `away` is candidates x m: the row less each of them, in units.
    """
    tolerance = TOLERANCES[precision][1]
    at = np.abs(away[base]) > tolerance
    moved, total = away[base, at], at.size
    likely = np.flatnonzero(_may_pile(away, base, tolerance, _CLEAR[precision], _WIDTH[precision]))
    change = {int(row): (away[base] - away[row])[at] for row in likely}
    piles = [(*pile, row) for row in change if (pile := _pile(moved, change[row], precision))]
    piles = _apart(moved, change, sorted(piles, key=lambda each: (-each[0], each[2])), tolerance)
    if not piles:
        return None
    parts = np.stack([factor * change[row] for _, factor, row in piles])
    best: tuple[float, str, NDArray[np.float64], NDArray[np.bool_]] | None = None
    for method, weights in (("dare", None), ("ties", np.ones(len(parts))), ("ties", _weights(moved, parts, precision))):
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


def _pile(moved: NDArray[np.float64], change: NDArray[np.float64], precision: int) -> tuple[float, float] | None:
    """(share of the moved coordinates, value) of the ratio moved / change that comes most often, if one does."""
    clear = np.abs(change) >= _CLEAR[precision]
    moved, change = moved[clear], change[clear]
    if moved.size < _LEAST_CLEAR:
        return None
    ratio = moved / change
    order = np.flatnonzero(ratio > _LEAST_RATIO)
    if not order.size:
        return None
    order = order[np.argsort(ratio[order], kind="stable")]
    ahead = np.searchsorted(ratio[order], ratio[order] * (1 + _WIDTH[precision]), side="right") - np.arange(order.size)
    first = int(np.argmax(ahead))
    pile = order[first : first + ahead[first]]
    if pile.size < _PILE * ratio.size:
        return None
    # The largest changes tell the value best, of those that are in the pile by no accident.
    middle = float(np.median(ratio[pile]))
    pile = pile[np.abs(moved[pile] - middle * change[pile]) <= 4 + 1e-5 * np.abs(moved[pile])]
    if not pile.size:
        return None
    return pile.size / ratio.size, float(moved[pile] @ change[pile] / (change[pile] @ change[pile]))


@njit(cache=True, nogil=True, error_model="numpy")
def _may_pile(away: NDArray[np.float64], base: int, tolerance: float, clear: float, width: float) -> NDArray[np.bool_]:
    """k: can a share _PILE of a candidate's clear ratios lie in one stretch from r to r (1 + width)?

    Finding piles takes sorting, and most have none: so by bins that hold any such stretch, of the first coordinates
    first.
    """
    least = np.where(np.abs(away[base]) > tolerance, clear, np.inf)
    few = (away.shape[1] + _GLIMPSE - 1) // _GLIMPSE
    result = np.zeros(len(away), np.bool_)
    for row in range(len(away)):
        if row != base and _most_together(away[base, :few], away[row, :few], least[:few], width) >= _FAINT * _PILE:
            result[row] = _most_together(away[base], away[row], least, width) >= _PILE
    return result


@njit(nogil=True, error_model="numpy")
def _most_together(
    moved: NDArray[np.float64], away: NDArray[np.float64], least: NDArray[np.float64], width: float
) -> float:
    """At most which share of the ratios moved / (moved - away), of changes that are no less than `least`, lies in one
    stretch.

    Bins are the first bits of the ratio, of a relative width between 2^-bits and half of that.
    """
    bits, reach = (7, 9) if width > _NARROW else (8, 2)
    ends = np.array([_LEAST_RATIO, _MOST_RATIO]).view(np.int64) >> (52 - bits)
    last = ends[1] - ends[0] + 1
    ratios = np.empty(moved.size)
    seen = 0
    # Without branches, which no processor could foresee here; what is no ratio is put beside the bins.
    for i in range(ratios.size):
        change = moved[i] - away[i]
        counts = abs(change) >= least[i]
        ratio = min(moved[i] / change, _MOST_RATIO)
        ratios[i] = ratio if counts & (ratio > _LEAST_RATIO) else 0.0
        seen += counts
    held = np.zeros(last + 1, np.int32)
    for first in ratios.view(np.int64):
        at = (first >> (52 - bits)) - ends[0]
        held[at if at >= 0 else last] += 1
    most = inside = 0
    for i in range(last):
        inside += held[i] - (held[i - reach] if i >= reach else 0)
        most = max(most, inside)
    return most / max(seen, 1)


def _weights(moved: NDArray[np.float64], parts: NDArray[np.float64], precision: int) -> NDArray[np.float64]:
    """What each part (k x m) weighs in a mean beside the first, from the coordinates that none of them gives alone."""
    weights = np.ones(len(parts))
    mixed = (np.abs(moved - parts) > TOLERANCES[precision][1] + 1e-5 * np.abs(parts)).all(axis=0)
    for i in range(1, len(parts)):
        pile = _pile((moved - parts[0])[mixed], (parts[i] - parts[0])[mixed], precision)
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
