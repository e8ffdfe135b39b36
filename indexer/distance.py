"""How far two models are apart, from their sketches: pair-local, so that adding a model changes no old distance.

Squared L2 is the measure because it is a tree metric: training increments are nearly orthogonal in so many dimensions
that squared distances add up along a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.family import Family, TensorColumn
from store.format import SketchFormat
from store.positions import sample_positions

__all__ = ["RELATED", "Pairs", "correlations", "measure_pairs", "normalised", "squared_distances"]

RELATED: Final = 0.2
"""Least mean correlation of relatives. Measured on published sets: strangers of one architecture stay below .16
(convolutions trained on one task) and mostly below .03; children of one published parent were found down to .29."""

_SMALL_AXIS: Final = 11
"""Axes up to this length are kernel positions (7 x 7 and less), which have means of their own in strangers too."""
_KERNEL_AXES: Final = 3
"""Twenty axes of length 2 are no kernel, and would be a million positions."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Measurements of P pairs of rows of a family."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    squared: NDArray[np.float64]
    """Squared L2 distance over the shared measured tensors, scaled up to all of them."""
    distance: NDArray[np.float64]
    """Root mean square change of a weight."""
    correlation: NDArray[np.float64]
    shared: NDArray[np.float64]
    equal: NDArray[np.float64]


def normalised(family: Family, form: SketchFormat | None = None) -> NDArray[np.float32]:
    """n x M: samples centred and scaled tensor by tensor, so that an inner product of two rows is the mean over
    tensors, weighted by sqrt(elements), of their correlation.

    The mean that is taken off a convolution is that of each kernel position: independent trainings agree on how much
    weight the middle of a kernel has, and that is no kinship.
    """
    seed = (form or SketchFormat()).seed
    rows = np.empty(family.samples.shape, np.float32)
    weights = np.sqrt(family.elements)
    for tensor, weight, first, last in zip(family.measured, weights, family.starts, family.starts[1:], strict=False):
        centred = _centre(tensor, seed)
        size = np.sqrt((centred**2).sum(axis=1, keepdims=True))
        rows[:, first:last] = centred / np.where(size > 0, size, 1.0) * np.sqrt(weight / weights.sum())
    return rows


def _centre(tensor: TensorColumn, seed: int) -> NDArray[np.float64]:
    x = tensor.samples[:]
    small = [axis for axis, size in enumerate(tensor.shape) if 1 < size <= _SMALL_AXIS]
    if len(tensor.shape) < 3 or not 1 <= len(small) <= _KERNEL_AXES:
        return np.asarray(x - x.mean(axis=1, keepdims=True))
    index = np.unravel_index(sample_positions(tensor.elements, x.shape[1], seed), tensor.shape)
    cell = np.ravel_multi_index([index[axis] for axis in small], [tensor.shape[axis] for axis in small])
    # Row by row, not as a product of matrices: what comes out may not depend on who is asked beside.
    order = np.argsort(cell, kind="stable")
    _, first, which, count = np.unique(cell[order], return_index=True, return_inverse=True, return_counts=True)
    means = np.add.reduceat(x[:, order], first, axis=1) / count
    back = np.empty(cell.size, np.int64)
    back[order] = which
    return np.asarray(x - means[:, back])


def correlations(
    rows: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64], others: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Inner products of pairs of rows of `normalised`, length P; with `others`, b are rows of those."""
    return np.asarray(_dots(rows, rows if others is None else others, a, b))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dots(
    rows: NDArray[np.float32], others: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    out = np.empty(a.size)
    for p in range(a.size):
        x = rows[a[p]]
        y = others[b[p]]
        total = 0.0
        for j in range(x.size):
            total += np.float64(x[j]) * np.float64(y[j])
        out[p] = total
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _squared(
    samples: NDArray[Any],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    elements: NDArray[np.float64],
    present: NDArray[np.bool_],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimated squared L2 over shared tensors, and the number of values in them; a model's samples are at `rows`.

    Differences are taken before squaring: norms and inner products would cancel in a family whose members differ by
    1e-3."""
    total = np.zeros(a.size)
    values = np.zeros(a.size)
    for p in range(a.size):
        x = samples[rows[a[p]]]
        y = samples[rows[b[p]]]
        for t in range(elements.size):
            if present[a[p], t] and present[b[p], t]:
                u = x[starts[t] : starts[t + 1]]
                v = y[starts[t] : starts[t + 1]]
                part = 0.0
                for j in range(u.size):
                    d = np.float64(u[j]) - np.float64(v[j])
                    part += d * d
                total[p] += part * elements[t] / u.size
                values[p] += elements[t]
    return total, values


def squared_distances(
    family: Family, a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(squared L2 distances scaled up to all measured tensors, the number of values in those that are shared) of P
    pairs of rows; infinite where nothing is shared or told. Each pair is compared at its shorter precision."""
    squared, values = np.zeros(a.size), np.zeros(a.size)
    precision = np.maximum(family.precision[a], family.precision[b])
    for level in np.unique(precision):
        at = precision == level
        squared[at], values[at] = _squared(
            family.samples.rounded(int(level), np.concatenate([a[at], b[at]])),
            family.samples.rows,
            family.starts,
            family.elements,
            family.present,
            a[at],
            b[at],
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = squared * (family.elements.sum() / values)
    # Damaged weights beyond the shorter float have no difference.
    return np.where((values > 0) & ~np.isnan(scaled), scaled, np.inf), values


def measure_pairs(family: Family, rows: NDArray[np.float32], a: NDArray[Any], b: NDArray[Any]) -> Pairs:
    """Measure pairs (a[i], b[i]) of rows of the family; `rows` is `normalised(family)`."""
    a = np.asarray(a, np.int64)
    b = np.asarray(b, np.int64)
    scaled, values = squared_distances(family, a, b)
    weights = np.sqrt(family.elements)
    both = family.present[a] & family.present[b]
    # Sums row by row, for the same reason as in `_centre`.
    shared = np.where(both, weights, 0.0).sum(axis=1) / weights.sum()
    same = (family.hashes[a] == family.hashes[b]) & both
    equal = np.where(same, family.elements, 0.0).sum(axis=1) / family.elements.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        # Tensors known to be equal by hash are equal, whatever else rounding says; a stranger has nothing shared.
        distance = np.where(values > 0, np.sqrt(scaled / family.elements.sum()), np.inf)
        correlation = np.where(shared > 0, correlations(rows, a, b) / shared, 0.0)
    return Pairs(a, b, scaled, distance, correlation, shared, np.asarray(equal))
