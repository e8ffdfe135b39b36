"""Merges of two models whose shares differ from layer to layer: SLERP, and means with a weight for each layer.

On the way along an arc both shares stay below 1 and their sum is 1 or a little above, by the angle between the layers.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import TOLERANCES, Combination, explained, misses, solve
from indexer.family import Family
from indexer.relatives import Relatives

__all__ = ["layered_merge"]

_TRIED: Final = 12
"""Candidates, nearest first, of which a pair is looked for."""
_SCREENED: Final = 512
_SHARE: Final = 0.02
"""Least share of either parent in a layer for it to speak of a mean; where layers are simply taken over from one or
the other, that may as well be a parent of two children which each trained some layers."""
_MIXED: Final = 0.1
"""Least share of the weights that lie in mixed layers."""
_LONGEST: Final = 1.6
"""Largest sum of the two shares: that of the middle between layers 100 degrees apart."""
_CONFIDENCE: Final = 0.95


def layered_merge(family: Family, near: Relatives) -> Combination | None:
    """The row as a mean of two candidates with shares of their own in each measured tensor, or None."""
    spans = [slice(int(a), int(b)) for a, b in zip(family.starts[:-1], family.starts[1:], strict=True)]
    target = family.samples[near.row]
    nearest = family.samples[near.candidates[0]]
    moved = [int((target[s] != nearest[s]).sum()) for s in spans]
    first = int(np.argmax(moved))
    at = np.flatnonzero(target[spans[first]] != nearest[spans[first]])[:_SCREENED] + spans[first].start
    tried = near.candidates[: min(_TRIED, at.size // 6)]
    if len(tried) < 2:
        return None
    unit = near.units_at(at)
    goal = target[at] / unit
    columns = family.samples[np.ix_(tried, at)] / unit
    single = goal - columns[0]
    if not explained(_errors(columns, goal), single, near.precision):
        return None
    pairs = list(combinations(range(len(tried)), 2))
    left = [misses(_errors(columns[[i, j]], goal), TOLERANCES[near.precision][1]).mean() for i, j in pairs]
    i, j = pairs[int(np.argmin(left))]
    return _pair(family, near, int(tried[i]), int(tried[j]), spans)


def _errors(columns: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a linear combination of the columns (k x m) leaves; differences first, for the columns are nearly equal."""
    moved = np.concatenate([columns[1:] - columns[0], columns[:1]])
    return np.asarray(goal - columns[0] - solve(moved, goal - columns[0]) @ moved)


def _pair(family: Family, near: Relatives, p: int, q: int, spans: list[slice]) -> Combination | None:
    target, a, b = family.samples[[near.row, p, q]]
    errors = np.zeros(target.size)
    shares = np.full((len(spans), 2), np.nan)
    for t, s in enumerate(spans):
        errors[s] = (target[s] - a[s]) / near.unit[s]
        if not (a[s] != b[s]).any():
            continue
        columns = np.stack([b[s] - a[s], a[s]]) / near.unit[s]
        found = solve(columns, errors[s])
        errors[s] = errors[s] - found @ columns
        shares[t] = 1 - found[0] + found[1], found[0]
        for at, each in enumerate((a[s], b[s])):
            # One of the two, at most scaled, is the whole layer.
            scale = float(target[s] @ each / (each @ each)) if each.any() else 0.0
            if misses((target[s] - scale * each) / near.unit[s], TOLERANCES[near.precision][1]).mean() < 0.01:
                shares[t] = 1 - at, at
    known = np.isfinite(shares[:, 0])
    if not known.any():
        return None
    singles = [(target - each) / near.unit for each in (a, b)]
    if not all(explained(errors, single, near.precision) for single in singles):
        return None
    weight = family.elements[known]
    shares = shares[known]
    total = shares.sum(axis=1)
    mixed = (shares > _SHARE).all(axis=1)
    if weight[mixed].sum() < _MIXED * weight.sum():
        return None
    if (shares < -_SHARE).any() or (total < 1 - _SHARE).any() or (total > _LONGEST).any():
        return None
    mean = weight @ shares / weight.sum()
    order = sorted(((float(mean[0]), p), (float(mean[1]), q)), key=lambda each: (-each[0], each[1]))
    return Combination(
        tuple(row for _, row in order),
        tuple(share for share, _ in order),
        "slerp" if float(np.median(total)) > 1 + 1e-6 else "linear",
        _CONFIDENCE,
    )
