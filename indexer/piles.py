"""Piles: a row's steps from a base that are one multiple of a relative's, at many coordinates.

The ratios of two trained changes are spread; where one was computed from the other they are the same number.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.combination import TOLERANCES
from indexer.family import Family
from indexer.relatives import Relatives

__all__ = ["GLIMPSE", "Differences", "find_piles", "largest_pile"]

GLIMPSE: Final = 4
"""One coordinate in so many is looked at first: those at the beginning."""
_PILE: Final = 0.05
"""Least share of the moved coordinates at which the ratio to one change is the same."""
_FAINT: Final = 0.7
"""Of what is looked at first, a pile has at least this part of _PILE, or is not looked for."""
_WIDTH: Final = (1e-3, 0.03, 0.03)
"""Ratios that differ by less are the same, per precision."""
_NARROW: Final = 0.01
_LEAST_RATIO: Final = 0.01
_MOST_RATIO: Final = 1e4
"""Parts of a merge weigh no less; larger ones count as one pile where piles are only guessed at."""
_CLEAR: Final = (1000.0, 30.0, 30.0)
"""A change of so many units gives a ratio that is precise enough."""
_LEAST_CLEAR: Final = 40

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Differences:
    """A row less each of its k candidates at m coordinates, in units; worked out for those that are looked at."""

    def __init__(self, family: Family, near: Relatives, at: Ints) -> None:
        k = len(near.candidates)
        self._family, self._near, self._at = family, near, at
        self._unit = near.units_at(at)
        self._tensor = np.searchsorted(family.starts, at, side="right") - 1
        self._looked = np.zeros(k, bool)
        self._moved = np.ones((k, len(family.elements)), bool)
        self.away: Floats = np.empty((k, at.size))
        """k x m; what was not looked at holds anything."""

    def look(self, candidates: Ints) -> Floats:
        """Work these out; what is then known of them, in their order."""
        new = candidates[~self._looked[candidates]]
        if new.size:
            samples = self._family.samples
            self.away[new], self._moved[new] = _in_units(
                samples.at_hand([self._near.row, *self._near.candidates[new]]),
                samples.rows[self._near.row],
                samples.rows[self._near.candidates[new]],
                self._at,
                self._unit,
                self._tensor,
                self._moved.shape[1],
                TOLERANCES[self._near.precision][1],
            )
            self._looked[new] = True
        return self.away[candidates]

    def through(self) -> NDArray[np.bool_]:
        """m: coordinates of tensors in which the row differs from each candidate that was looked at.

        A tensor that is one relative's as a whole says nothing: a mask goes through a tensor, freezing goes around it.
        """
        return np.asarray(self._moved.all(axis=0))[self._tensor]


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
    own, share = samples[row][at].astype(np.float64), 1.0 / unit
    away = np.empty((candidates.size, at.size))
    moved = np.zeros((candidates.size, tensors), np.bool_)
    for i in range(candidates.size):
        for j in range(at.size):
            value = (own[j] - np.float64(samples[candidates[i], at[j]])) * share[j]
            away[i, j] = value
            moved[i, tensor[j]] |= not abs(value) <= tolerance
    return away, moved


def find_piles(away: Floats, base: int, among: Ints, precision: int) -> dict[int, tuple[float, float]]:
    """Candidate -> `largest_pile` as seen from the base, of those `among` which one has.

    `away` is candidates x m: the row less each of them, in units; only the base and those are looked at.
    """
    tolerance = TOLERANCES[precision][1]
    likely = among[_may_pile(away, base, among, tolerance, _CLEAR[precision], _WIDTH[precision])]
    at = np.abs(away[base]) > tolerance
    told = ((int(row), largest_pile(away[base, at], (away[base] - away[row])[at], precision)) for row in likely)
    return {row: pile for row, pile in told if pile is not None}


def largest_pile(moved: NDArray[np.float64], change: NDArray[np.float64], precision: int) -> tuple[float, float] | None:
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
def _may_pile(away: Floats, base: int, among: Ints, tolerance: float, clear: float, width: float) -> NDArray[np.bool_]:
    """Of each of `among`: can a share _PILE of its clear ratios lie in one stretch from r to r (1 + width)?

    Finding piles takes sorting, and most have none: so by bins that hold any such stretch, of the first coordinates
    first.
    """
    least = np.where(np.abs(away[base]) > tolerance, clear, np.inf)
    few = (away.shape[1] + GLIMPSE - 1) // GLIMPSE
    result = np.zeros(among.size, np.bool_)
    for i in range(among.size):
        row = among[i]
        if row != base and _most_together(away[base, :few], away[row, :few], least[:few], width) >= _FAINT * _PILE:
            result[i] = _most_together(away[base], away[row], least, width) >= _PILE
    return result


@njit(nogil=True, error_model="numpy")
def _most_together(moved: Floats, away: Floats, least: Floats, width: float) -> float:
    """At most which share of the ratios moved / (moved - away), of changes that are no less than `least`, lies in one
    stretch from r to r (1 + width).

    Bins are the first bits of the ratio, of a relative width between 2^-bits and half of that.
    """
    bits = 7 if width > _NARROW else 8
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
    before = np.zeros(last + 1, np.int32)
    for i in range(last):
        before[i + 1] = before[i] + held[i]
    most = 0
    for i in range(last):
        # A stretch that begins in this bin, which in its octave is the size-th of those as wide.
        size = (1 << bits) + ((i + ends[0]) & ((1 << bits) - 1))
        reach = int(np.ceil((size + 1) * (1 + width))) - size
        most = max(most, before[min(i + reach, last)] - before[i])
    return most / max(seen, 1)
