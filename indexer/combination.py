"""Is one model a linear combination of others, up to rounding? Fits of one target row on a few rows of a family.

Differences are taken from one of the candidates before anything is squared: relatives agree in all but a thousandth of
their size. All errors are counted in units of the target's own last place, coordinate by coordinate, so that small
weights count as much as large ones and a fit that is right leaves errors of half a unit everywhere. Training moves
thousands of units in float32, and whole units in bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "TOLERANCES", "Combination", "Fit", "explained", "fit_linear", "misses", "solve", "units"]

BITS: Final = (23, 10, 7)
"""Bits of the fraction at each of `indexer.samples.PRECISIONS`."""
_LEAST_EXPONENT: Final = (-126, -14, -126)

TOLERANCES: Final = ((1.0, 4.0), (0.52, 1.6), (0.52, 1.6))
"""Per precision, in units: rounding once at the end, and at each step of the arithmetic."""
_HITS: Final = 0.99
"""Least share of coordinates that an explanation must meet, of all and of those that one parent alone does not."""
_LEAST_MISSES: Final = 48
_LEAST_SHARE: Final = 0.02
"""Coordinates, and their share, that one parent alone does not explain: else there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Combination:
    """How a row was computed from others."""

    parents: tuple[int, ...]
    """Rows, by coefficient, largest first; the first is the main one."""
    coefficients: tuple[float, ...]
    """Shares of the parents, which sum to 1 or a little more, or, where there is a base, of their changes from it."""
    method: str
    """linear, task_arithmetic, slerp, ties or dare."""
    confidence: float
    base: int | None = None
    """Row that the changes were taken from and added to."""

    @property
    def sources(self) -> tuple[int, ...]:
        """All rows that it was computed from."""
        return self.parents if self.base is None else (*self.parents, self.base)


@dataclass(frozen=True, slots=True)
class Fit:
    """target = sum of coefficients[i] * row parents[i]; the coefficients sum to 1."""

    parents: tuple[int, ...]
    coefficients: tuple[float, ...]
    errors: NDArray[np.float64]
    """Length M: what is left, in units."""


def units(values: NDArray[np.float64], precision: int) -> NDArray[np.float64]:
    """The distance between neighbouring floats of a precision at each value."""
    _, exponent = np.frexp(values)
    return np.asarray(np.ldexp(1.0, np.maximum(exponent - 1, _LEAST_EXPONENT[precision]) - BITS[precision]))


def fit_linear(
    target: NDArray[np.float64], rows: NDArray[np.float64], parents: tuple[int, ...], unit: NDArray[np.float64]
) -> Fit:
    """The affine combination of `rows` (k x M, those of `parents`) that comes nearest to `target` in units."""
    if len(rows) == 1:
        return Fit(parents, (1.0,), (target - rows[0]) / unit)
    free = solve(((rows[1:] - rows[0]) / unit), (target - rows[0]) / unit)
    errors = (target - rows[0] - free @ (rows[1:] - rows[0])) / unit
    return Fit(parents, (float(1 - free.sum()), *(float(c) for c in free)), errors)


def solve(columns: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of `goal` (m, or c x m) on the rows of `columns` (k x m), by refined normal equations: k, or c x k.

    A ridge of 1e-12 lets equal columns share; the refinement makes up for it and for the squared condition number.
    """
    size = np.sqrt((columns**2).sum(axis=1))
    size[size == 0] = 1.0
    unit = columns / size[:, None]
    gram = unit @ unit.T
    gram[np.diag_indices_from(gram)] += 1e-12
    inverse = np.linalg.inv(gram)
    found = np.zeros((*goal.shape[:-1], len(columns)))
    for _ in range(3):
        found += (goal - found @ unit) @ unit.T @ inverse
    return np.asarray(found / size)


def misses(errors: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Coordinates that an explanation does not meet."""
    return np.asarray(np.abs(errors) > tolerance)


def explained(errors: NDArray[np.float64], single: NDArray[np.float64], precision: int) -> bool:
    """Do these errors (units) speak of rounding alone, where those of the best single parent, `single`, do not?

    Of the coordinates that the single parent misses nearly all must be met: a trained child of low precision equals
    its parent at most of them, and says nothing there.
    """
    for tolerance in TOLERANCES[precision]:
        moved = misses(single, tolerance)
        if moved.sum() < max(_LEAST_MISSES, _LEAST_SHARE * moved.size):
            continue
        wrong = misses(errors, tolerance)
        if wrong.mean() <= 1 - _HITS and wrong[moved].mean() <= 1 - _HITS:
            return True
    return False
