"""The rows that a row may have been computed from, and whether they explain it at all: a screen for every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.answered import Answered
from indexer.beside import Listed, from_middle, from_nearest
from indexer.combination import explained, units
from indexer.family import Family
from indexer.memo import Memo
from indexer.sparse import Matrix, Sparse, reached

__all__ = ["Candidates", "Relatives", "all_relatives", "depends", "moved", "relatives_of"]

_KIND: Final = "relatives of all"
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
        return self.units_at(slice(None))

    def units_at(self, at: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Errors' units at some coordinates; most rows are never asked for all."""
        if "unit" in self.__dict__:
            return self.unit[at]
        values = np.abs(self.family.samples[self.row, at])
        if self.precision == 0 and self.nearest >= 0:
            # In float32 the arithmetic's own rounding is that of its largest operand.
            values = np.maximum(values, np.abs(self.family.samples[self.nearest, at]))
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


@dataclass(frozen=True)
class Candidates:
    """`Relatives` of all n rows of a family."""

    family: Family = field(repr=False)
    rows: NDArray[np.int64]
    """n x k: the candidates of each, nearest first, then -1."""
    nearest: NDArray[np.int64]
    """n."""

    def of(self, row: int) -> Relatives:
        """Those of a row."""
        rows = self.rows[row]
        return Relatives(self.family, row, rows[rows >= 0], int(self.nearest[row]))


def all_relatives(family: Family, squared: Matrix, central: NDArray[np.int64], memo: Memo | None = None) -> Candidates:
    """`relatives_of` each row. Of a large component, `memo` knows them of rows whose lists are what they were."""
    n = len(family)
    if not isinstance(squared, Sparse) or not family.present.all():
        every = [relatives_of(family, squared, row, central) for row in range(n)]
        rows = np.full((n, max((len(near.candidates) for near in every), default=0)), -1)
        for near in every:
            rows[near.row, : len(near.candidates)] = near.candidates
        return Candidates(family, rows, np.array([near.nearest for near in every], np.int64))
    starts, columns, _ = squared.lists()
    first = squared.nearest(1)[:, 0]
    answered = Answered(family, memo or Memo())
    told = answered.digests(starts, columns, family.content_keys[central].tobytes())
    known, places = answered.known(_KIND, told, np.dtype((np.int32, (_NEAR + 2 * _ALONG + central.size,))))
    fresh = np.flatnonzero(~known)
    listed = Listed(squared, fresh)
    beside = np.stack(
        [
            from_nearest(family, squared, listed, first[fresh], answered.memo),
            from_middle(family, squared, listed.columns, int(central[0]), answered.memo),
        ]
    )
    places[fresh] = _chosen(fresh, first[fresh], listed.spans, listed.columns, listed.values, beside, central)
    answered.keep(_KIND, told, places)
    # One more than there are, as there may be none.
    some = np.append(columns, -1)
    rows = np.where(places >= 0, some[np.minimum(starts[:-1, None] + places, len(columns))], -1)
    return Candidates(family, rows[:, : max(2, family.samples.shape[1] // 8)], first)


@njit(cache=True, nogil=True, error_model="numpy")
def _chosen(
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float64],
    beside: NDArray[np.float64],
    central: NDArray[np.int64],
) -> NDArray[np.int64]:
    """b x k: places in the lists of b rows of what `relatives_of` chooses, then -1. `beside` is 2 x E: how far each of
    E listed rows lies from the nearest of its row, `first`, and from the middle."""
    b = rows.size
    result = np.full((b, _NEAR + 2 * _ALONG + central.size), -1)
    for i in range(b):
        start = starts[i]
        some = np.arange(start, starts[i + 1])
        some = some[np.isfinite(values[some])]
        taken = np.zeros(starts[i + 1] - start, np.bool_)
        order = some[np.argsort(values[some], kind="mergesort")]
        held = 0
        for at in order if order.size <= _NEAR + _ALONG else order[:_NEAR]:
            result[i, held] = at - start
            taken[at - start] = True
            held += 1
        if order.size == held:
            continue
        for way in range(2):
            base = first[i] if way == 0 else central[0]
            if base == rows[i] or (way == 1 and base == first[i]):
                continue
            of_base = np.inf
            for at in some:
                if columns[at] == base:
                    of_base = values[at]
            turned = np.empty(some.size)
            for place in range(some.size):
                from_base = beside[way, some[place]]
                cosine = (of_base + from_base - values[some[place]]) / np.sqrt(of_base * from_base)
                turned[place] = -cosine if np.isfinite(cosine) and columns[some[place]] != base else np.inf
            for at in some[np.argsort(turned, kind="mergesort")[:_ALONG]]:
                if not taken[at - start]:
                    result[i, held] = at - start
                    taken[at - start] = True
                    held += 1
        for middle in central:
            for at in some:
                if columns[at] == middle and not taken[at - start]:
                    result[i, held] = at - start
                    taken[at - start] = True
                    held += 1
    return result


def depends(family: Family, near: Relatives) -> bool:
    """Does one fit on all candidates leave rounding errors only?"""
    at = moved(family, near, _SCREENED)
    if at.size < 4 * len(near.candidates):
        return False
    rows = family.samples[np.ix_(near.candidates, at)]
    unit = near.units_at(at)
    single = (family.samples[near.row, at] - rows[0]) / unit
    columns = (rows[1:] - rows[0]) / unit
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
