"""Search vectors in a byte a coordinate, and how much of a likeness that can lose: proved, not estimated.

For vectors x and y, and what their codes stand for, x' and y':  |<x, y> - <x', y'>| <= |x - x'| |y| + |x'| |y - y'|
(Cauchy and Schwarz). So rough likenesses tell for certain who is not alike, which is true of nearly all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["LONGEST", "SLACK", "Codes", "coded", "spread"]

LONGEST: Final = 1.001
"""Search vectors are of length 1 or 0, but for rounding. Of one that is longer, or not finite, codes tell nothing."""

SLACK: Final = 2e-6
"""More than all that float32 and float64 round on the way, of which a bound on real numbers knows nothing."""

_MOST: Final = 127
_FINEST: Final = 1e-7
"""A vector of nearly nothing is nothing: what it loses is counted like any other loss."""


@dataclass(frozen=True, slots=True)
class Codes:
    """What n vectors x are coded as: x' = scale * values, as seen after `spread`."""

    values: NDArray[np.int8]
    """n x D, from -127 to 127."""
    scale: NDArray[np.float32]
    """n."""
    lost: NDArray[np.float32]
    """n: at least |x - x'|, and more than 0; infinite where nothing is known."""


def coded(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> Codes:
    """Codes of those rows of the vectors, in their order."""
    n = len(rows)
    codes = Codes(np.empty((n, vectors.shape[1]), np.int8), np.empty(n, np.float32), np.empty(n, np.float32))
    _code(vectors, rows, codes.values, codes.scale, codes.lost)
    return codes


def spread(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """n x D: the vectors turned so that no coordinate of them stands out, which would cost all others their precision.

    Hadamard's matrix on as many of the first coordinates as are a power of two, then on as many of the last ones. It
    is orthogonal: inner products are what they were.
    """
    out = vectors.astype(np.float64)
    for row in out:
        _spread(row)
    return out


@njit(cache=True, nogil=True)
def _spread(row: NDArray[np.float64]) -> None:
    size = 1
    while 2 * size <= row.size:
        size *= 2
    _turn(row[:size])
    if size < row.size:
        _turn(row[row.size - size :])


@njit(cache=True, nogil=True)
def _turn(row: NDArray[np.float64]) -> None:
    half = row.size // 2
    while half:
        for first in range(0, row.size, 2 * half):
            for j in range(first, first + half):
                x, y = row[j], row[j + half]
                row[j], row[j + half] = x + y, x - y
        half //= 2
    row *= 1.0 / np.sqrt(row.size)


@njit(cache=True, nogil=True)
def _code(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    values: NDArray[np.int8],
    scale: NDArray[np.float32],
    lost: NDArray[np.float32],
) -> None:
    row = np.empty(vectors.shape[1])
    for i in range(rows.size):
        length = largest = 0.0
        for j in range(row.size):
            row[j] = vectors[rows[i], j]
            length += row[j] * row[j]
        # Not finite is not less either.
        if not length <= LONGEST * LONGEST:
            values[i] = 0
            scale[i], lost[i] = 1.0, np.inf
            continue
        _spread(row)
        for j in range(row.size):
            largest = max(largest, abs(row[j]))
        scale[i] = max(largest / _MOST, _FINEST)
        step, off = np.float64(scale[i]), 0.0
        for j in range(row.size):
            code = min(max(np.rint(row[j] / step), -_MOST), _MOST)
            values[i, j] = np.int8(code)
            off += (row[j] - step * code) ** 2
        lost[i] = np.sqrt(off) * (1 + SLACK) + SLACK
