"""The rows that a row may have been computed from, and whether they explain it at all: a screen for every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.combination import explained, units
from indexer.family import Family
from indexer.sparse import Matrix, Sparse, reached

__all__ = ["Relatives", "all_relatives", "depends", "moved", "relatives_of"]

_NEAR: Final = 16
_ALONG: Final = 16
"""Candidates of a model: its nearest, and those in whose direction it lies as seen from the nearest and the centre."""
_SCREENED: Final = 512
"""Coordinates of a screen."""
_HOPELESS: Final = 0.3
"""If relatives leave more of the distance to the nearest than this, by a fast fit, a better one is not tried."""


@dataclass(frozen=True)
class Relatives:
    """A row and the rows that it may have been computed from, nearest first."""

    family: Family = field(repr=False)
    row: int
    candidates: NDArray[np.int64]
    nearest: int
    """Of all that are near, -1 where none is."""

    @cached_property
    def precision(self) -> int:
        return int(self.family.precision[self.row])

    @cached_property
    def unit(self) -> NDArray[np.float64]:
        """M: errors' units."""
        values = np.abs(self.family.samples[self.row])
        if self.precision == 0 and self.nearest >= 0:
            # In float32 the arithmetic's own rounding is that of its largest operand.
            values = np.maximum(values, np.abs(self.family.samples[self.nearest]))
        return units(values, self.precision)


def relatives_of(family: Family, squared: Matrix, row: int, central: NDArray[np.int64]) -> Relatives:
    """The candidates of a row: parents of a merge are near it, or it lies in their direction, as seen from its nearest
    or from the middle."""
    near, apart = reached(squared, row)
    alike = (family.present[near] == family.present[row]).all(axis=1)
    known, away = near[alike], apart[alike]
    order = known[np.argsort(away, kind="stable")]
    chosen = list(order if len(order) <= _NEAR + _ALONG else order[:_NEAR])
    if len(order) > len(chosen):
        for base in dict.fromkeys((int(order[0]), int(central[0]))):
            if base == row:
                continue
            of_base = apart[near == base].min(initial=np.inf)
            from_base = squared[base, known]
            with np.errstate(invalid="ignore", divide="ignore"):
                inner = of_base + from_base - away
                cosine = inner / np.sqrt(of_base * from_base)
            cosine[~np.isfinite(cosine) | (known == base)] = -np.inf
            chosen += list(known[np.argsort(-cosine, kind="stable")[:_ALONG]])
        within = set(known.tolist())
        chosen += [c for c in central.tolist() if c in within]
    candidates = np.array(list(dict.fromkeys(int(c) for c in chosen)), np.int64)
    candidates = candidates[: max(2, family.samples.shape[1] // 8)]
    return Relatives(family, row, candidates, int(candidates[0]) if len(candidates) else -1)


def all_relatives(family: Family, squared: Matrix, central: NDArray[np.int64]) -> dict[int, Relatives]:
    """`relatives_of` each row."""
    n = len(family)
    if not isinstance(squared, Sparse) or not family.present.all():
        return {row: relatives_of(family, squared, row, central) for row in range(n)}
    starts, columns, values = squared.lists()
    first = squared.nearest(1)[:, 0]
    row = np.repeat(np.arange(n), np.diff(starts))
    # How far what is near lies from the nearest and from the middle.
    ends = np.concatenate([first[row], np.full(row.size, central[0])]), np.concatenate([columns, columns])
    beside = squared.with_pairs(*ends)[ends].reshape(2, -1)
    chosen = _chosen(starts, columns, values, first, beside, central)
    most = max(2, family.samples.shape[1] // 8)
    lists = (each[each >= 0][:most] for each in chosen)
    return {row: Relatives(family, row, rows, int(first[row])) for row, rows in enumerate(lists)}


@njit(cache=True, nogil=True, error_model="numpy")
def _chosen(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float64],
    first: NDArray[np.int64],
    beside: NDArray[np.float64],
    central: NDArray[np.int64],
) -> NDArray[np.int64]:
    """n x k: what `relatives_of` chooses, then -1. `beside` is 2 x E: how far each of E listed rows lies from the
    nearest of its row and from the middle."""
    n = first.size
    result = np.full((n, _NEAR + 2 * _ALONG + central.size), -1)
    for row in range(n):
        some = np.arange(starts[row], starts[row + 1])
        some = some[np.isfinite(values[some])]
        order = some[np.argsort(values[some], kind="mergesort")]
        held = 0
        for at in order if order.size <= _NEAR + _ALONG else order[:_NEAR]:
            result[row, held] = columns[at]
            held += 1
        if order.size == held:
            continue
        for way in range(2):
            base = first[row] if way == 0 else central[0]
            if base == row or (way == 1 and base == first[row]):
                continue
            of_base = np.inf
            for at in some:
                if columns[at] == base:
                    of_base = values[at]
            turned = np.empty(some.size)
            for i in range(some.size):
                from_base = beside[way, some[i]]
                cosine = (of_base + from_base - values[some[i]]) / np.sqrt(of_base * from_base)
                turned[i] = -cosine if np.isfinite(cosine) and columns[some[i]] != base else np.inf
            for at in some[np.argsort(turned, kind="mergesort")[:_ALONG]]:
                if not (result[row, :held] == columns[at]).any():
                    result[row, held] = columns[at]
                    held += 1
        for middle in central:
            if (columns[some] == middle).any() and not (result[row, :held] == middle).any():
                result[row, held] = middle
                held += 1
    return result


def depends(family: Family, near: Relatives) -> bool:
    """Does one fit on all candidates leave rounding errors only?"""
    at = moved(family, near, _SCREENED)
    if at.size < 4 * len(near.candidates):
        return False
    rows = family.samples[np.ix_(near.candidates, at)]
    single = (family.samples[near.row, at] - rows[0]) / near.unit[at]
    columns = (rows[1:] - rows[0]) / near.unit[at]
    columns /= np.maximum(np.sqrt(np.einsum("ij,ij->i", columns, columns)), 1e-300)[:, None]
    # Not by BLAS: its threads cost more than so small a product, a thousand times over.
    gram, onto = np.einsum("ik,jk->ij", columns, columns), np.einsum("ik,k->i", columns, single)
    whole = float((single**2).sum())
    gram[np.diag_indices_from(gram)] += 1e-9
    left = whole - float(onto @ np.linalg.solve(gram, onto))
    if left > max(_HOPELESS**2 * whole, float(at.size)):
        return False
    # Where candidates depend on each other, which is where merges are, only the slow way is exact enough.
    found = np.linalg.lstsq(columns.T, single, rcond=1e-15)[0]
    return explained(single - found @ columns, single, near.precision)


def moved(family: Family, near: Relatives, most: int) -> NDArray[np.int64]:
    """At most `most` coordinates, evenly spread, at which the row differs from its nearest."""
    away = np.flatnonzero(family.samples[near.row] != family.samples[near.candidates[0]])
    return away if away.size <= most else away[np.linspace(0, away.size - 1, most).astype(np.int64)]
