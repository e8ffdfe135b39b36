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
_LEAST: Final = 24
_ZEROS: Final = 40
"""Samples that must have become zero before their distribution is compared."""


def rounded_to(family: Family, a: int, b: int, steps: Sequence[Steps], zeros: bool = True) -> bool:
    """Does b lie on lattices, and within half a step of a? `steps` is `find_steps` of b.

    With `zeros`, what is zero in b must be within half a step of zero in a; without, b may have been pruned besides.
    """
    x, y = family.samples[a], family.samples[b]
    return any(_near(family, x, y, each, zeros) for each in steps)


def _near(family: Family, x: NDArray[np.float64], y: NDArray[np.float64], steps: Steps, zeros: bool) -> bool:
    moved = (x[steps.columns] != y[steps.columns]).any(axis=0)
    hit = moved & np.isfinite(steps.step)
    if hit.sum() < max(_LEAST, _SHARE * moved.sum()):
        return False
    columns, step = steps.columns[:, hit], steps.step[hit]
    # Two values with a common divisor share a multiple of the step: the bound is generous for them, never too tight.
    apart = np.abs(x[columns] - y[columns])
    if (apart <= _HALF * step + np.abs(y[columns]) / 256 * (step < np.abs(y[columns]) / 4)).mean() < _WITHIN:
        return False
    return not zeros or _zeros_within(family, x, y, columns, step)


def _zeros_within(
    family: Family,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    columns: NDArray[np.int64],
    step: NDArray[np.float64],
) -> bool:
    """Are the values that b lost smaller in a than half the largest step of their tensor?"""
    tensor = np.searchsorted(family.starts, np.arange(y.size), side="right") - 1
    largest = np.zeros(len(family.measured))
    np.maximum.at(largest, tensor[columns[0]], step)
    lost = (y == 0) & (largest[tensor] > 0)
    return not lost.any() or float((np.abs(x[lost]) <= _HALF * largest[tensor[lost]]).mean()) >= _WITHIN


def rounded_at_zero(x: NDArray[np.float64], y: NDArray[np.float64], tensor: NDArray[np.int64]) -> bool:
    """Does what became zero say that y is x rounded, by steps that cannot be seen themselves?

    Rounding moves every value by up to half a step, evenly, and those below half a step to zero: so the sizes that
    were lost are distributed like the changes of all others. Pruning has a bound of its own, and training none.
    x, y: M samples; `tensor`: M, the tensor of each. Both are measured in units of the tensor's median change.
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
    bounded = np.quantile(scaled[kept], 0.99) <= 1.25 * scaled[lost].max()
    return bool((ratio >= 0.7).all() and (ratio <= 1.4).all() and bounded)
