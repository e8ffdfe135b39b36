"""The rows that a row may have been computed from, and whether they explain it at all: a screen for every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import explained, units
from indexer.family import Family
from indexer.sparse import Matrix, reached

__all__ = ["Relatives", "depends", "moved", "relatives_of"]

_NEAR: Final = 16
_ALONG: Final = 16
"""Candidates of a model: its nearest, and those in whose direction it lies as seen from the nearest and the centre."""
_SCREENED: Final = 512
"""Coordinates of a screen."""
_HOPELESS: Final = 0.3
"""If relatives leave more of the distance to the nearest than this, by a fast fit, a better one is not tried."""


@dataclass(frozen=True, slots=True)
class Relatives:
    """A row and the rows that it may have been computed from, nearest first, with errors' units (length M)."""

    row: int
    candidates: NDArray[np.int64]
    precision: int
    unit: NDArray[np.float64]


def relatives_of(family: Family, squared: Matrix, row: int, central: NDArray[np.int64]) -> Relatives:
    """The candidates of a row: parents of a merge are near it, or it lies in their direction, as seen from its nearest
    or from the middle."""
    near, apart = reached(squared, row)
    alike = (family.present[near] == family.present[row]).all(axis=1)
    known, away = near[alike], apart[alike]
    order = known[np.argsort(away, kind="stable")]
    chosen = list(order if len(order) <= _NEAR + _ALONG else order[:_NEAR])
    if len(order) > len(chosen):
        for base in {int(order[0]), int(central[0])} - {row}:
            of_base = apart[near == base].min(initial=np.inf)
            from_base = squared[base, known]
            with np.errstate(invalid="ignore", divide="ignore"):
                inner = of_base + from_base - away
                cosine = inner / np.sqrt(of_base * from_base)
            cosine[~np.isfinite(cosine) | (known == base)] = -np.inf
            chosen += list(known[np.argsort(-cosine, kind="stable")[:_ALONG]])
        chosen += central[np.isin(central, known)].tolist()
    candidates = np.array(list(dict.fromkeys(int(c) for c in chosen)), np.int64)
    candidates = candidates[: max(2, family.samples.shape[1] // 8)]
    precision = int(family.precision[row])
    values = np.abs(family.samples[row])
    if precision == 0 and len(candidates):
        # In float32 the arithmetic's own rounding is that of its largest operand.
        values = np.maximum(values, np.abs(family.samples[candidates[0]]))
    return Relatives(row, candidates, precision, units(values, precision))


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
