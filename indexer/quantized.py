"""Is a model another one, rounded to few bits? From samples: lattices, and what became zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.lattice import Steps

__all__ = ["rounded_at_zero", "rounded_to"]

_SHARE: Final = 0.5
"""Of the pairs of samples that moved, those that must have a common step."""
_WITHIN: Final = 0.97
"""Of the samples, those that must lie within half a step of the source: some quantisers cut the largest off."""
_HALF: Final = 0.51
_FILLED: Final = 0.2
"""Of the samples, those that must lie beyond a quarter of a step: half of them do, and a third where four in ten pairs
have a common divisor. What was trained *from* the quantised model lies nearer to it."""
_LEAST: Final = 24
_ZEROS: Final = 40
"""Samples that must have become zero before their distribution is compared."""
_BESIDE: Final = 0.55
"""What rounding leaves is at least one step, and neither what it sent to zero nor any change is above half a step: both
are at most half of every value that is left beside them. A little more, for values that were stored in 16 bits."""


def rounded_to(family: Family, a: int, b: int, steps: Sequence[Steps], zeros: bool = True) -> bool:
    """Does b lie on lattices, and within half a step of a? `steps` is `find_steps` of b.

    With `zeros`, what is zero in b must be within half a step of zero in a; without, b may have been pruned besides.
    """
    x, y = family.samples[a], family.samples[b]
    return any(_near(x, y, each) and (not zeros or _zeros_within(x, y, each)) for each in steps)


def _near(x: NDArray[np.float64], y: NDArray[np.float64], steps: Steps) -> bool:
    moved = (x[steps.columns] != y[steps.columns]).any(axis=0)
    hit = moved & np.isfinite(steps.step)
    if hit.sum() < max(_LEAST, _SHARE * moved.sum()):
        return False
    columns, step = steps.columns[:, hit], steps.step[hit]
    # Two values with a common divisor share a multiple of the step: the bound is generous for them, never too tight.
    # Values of many steps, stored in bfloat16, may have been rounded by more than a hundredth of a step once more.
    stored = np.where(step < np.abs(y[columns]) / 4, np.abs(y[columns]) / 256, 0.0)
    apart = np.abs(x[columns] - y[columns])
    filled = (apart > step / 4).mean() >= _FILLED
    return bool(filled and (apart <= _HALF * step + stored).mean() >= _WITHIN)


def _zeros_within(x: NDArray[np.float64], y: NDArray[np.float64], steps: Steps) -> bool:
    """Did only values below half a step become zero? A pruned source's zeros reach further."""
    zero, other = steps.beside[:, x[steps.beside[0]] != 0]
    return zero.size < _LEAST or float((np.abs(x[zero]) <= _BESIDE * np.abs(y[other])).mean()) >= _WITHIN


def rounded_at_zero(x: NDArray[np.float64], y: NDArray[np.float64], tensor: NDArray[np.int64]) -> bool:
    """Does what became zero say that y is x rounded, by steps that cannot be seen themselves?

    Rounding moves every value by up to half a step, evenly, and those below half a step to zero: so the sizes that
    were lost are distributed like the changes of all others, no change is more than half of what is left, and those of
    one step come close to that. Training after pruning goes beyond it, training from y does not come near.
    x, y: M samples; `tensor`: M, the tensor of each. Sizes are taken in units of the tensor's median change.
    """
    lost = (y == 0) & (x != 0)
    kept = (y != 0) & (x != y)
    if lost.sum() < _ZEROS or not 0.002 <= lost.sum() / max(1, lost.sum() + kept.sum()) <= 0.35:
        return False
    change = np.abs(x - y)
    unit = np.zeros(int(tensor.max()) + 1)
    for t in np.unique(tensor[kept]):
        unit[t] = np.median(change[kept & (tensor == t)])
    scaled = change / np.where(unit[tensor] > 0, unit[tensor], np.inf)
    at = (0.25, 0.5, 0.75, 0.9)
    ratio = np.quantile(scaled[lost], at) / np.quantile(scaled[kept], at)
    of_rest = change[kept] / np.abs(y[kept])
    bounded = (of_rest > _BESIDE).sum() <= 0.05 * lost.sum() and (of_rest > 0.3).sum() >= 0.5 * lost.sum()
    return bool(bounded and (ratio >= 0.7).all() and (ratio <= 1.4).all())
