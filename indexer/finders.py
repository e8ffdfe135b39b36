"""The first search among the vectors of a large component: all of them while there are few, else the lists near each.

Both are functions of the vectors alone, so that lists do not depend on the order in which models came; and what one
vector more changes of them is told, so that they can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from blake3 import blake3
from numba import njit
from numpy.typing import NDArray

from indexer.screen import lost_to_rounding, screened

__all__ = [
    "SLACK",
    "Bounds",
    "Finder",
    "Flat",
    "Inverted",
    "apart",
    "entering",
    "finder_of",
    "nearest_among",
]

SLACK: Final = 0.2
"""Cosine, times two, with its grandparent's side by which a step may lead back towards the root (see `SLANT`)."""
WHOLE: Final = 131_072
"""Up to so many vectors each is compared with all: lists are no faster for fewer (docs/performance.md)."""
_PROBED: Final = 1 / 16
"""Share of the lists that are looked at."""
_FEWEST: Final = 8
"""Lists that are looked at, at least."""
_WIDER: Final = 4
"""Times as many are looked at where bounds leave some out."""
_SPARE: Final = 16
"""As many more are asked of FAISS, so that the last that is wanted stands clear of those that were not found."""
_VAGUE: Final = 4
"""Times as many as are asked for that can be among the nearest: float64 tells more."""
_BLOCK: Final = 8_192
"""Vectors that are compared with at a time,"""
_ROWS: Final = 64
"""and those that ask whose lists they enter."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def apart(vectors: Vectors, a: Ints, b: Ints) -> Floats:
    """Squared distances of P pairs of vectors, summed in one order whatever is asked beside them: BLAS goes by the
    shape of its matrices, and what is measured with others would come out differently in the last place."""
    out = np.empty(a.size)
    for p in range(a.size):
        x = vectors[a[p]]
        y = vectors[b[p]]
        total = 0.0
        for j in range(x.size):
            d = np.float64(x[j]) - np.float64(y[j])
            total += d * d
        out[p] = total
    return out


@dataclass(frozen=True, slots=True)
class Bounds:
    """Who may be a parent: whoever does not lie clearly farther from the root than the child. The root is left out."""

    reach: Floats
    """n squared distances from the root."""
    root: int

    def forbid(self, rows: Ints, others: Ints, squared: Floats) -> NDArray[np.bool_]:
        """P: which of P `others`, at these squared distances, are no parents of P rows."""
        # The row itself may be infinitely far.
        with np.errstate(invalid="ignore"):
            away = self.reach[others]
            back = SLACK * np.sqrt(np.maximum(squared, 0)) * np.sqrt(away)
        # Whether one that is infinitely far is too far, nobody can tell.
        return np.asarray((np.isfinite(away) & (away > self.reach[rows] + back)) | (others == self.root))


class Finder(Protocol):
    """Answers who is near among n vectors of D coordinates."""

    whole: bool
    """Does it compare with all? Then a list changes by who comes or goes alone."""

    @property
    def told(self) -> bytes:
        """16 bytes over what answers depend on beside the vectors of who is asked and who is near."""

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> tuple[Ints, Floats]:
        """(b x k: the nearest of each of b rows, itself left out, that bounds allow, nearest first and of two that are
        equally far the lower row; -1 where there are fewer. b: how near another must be to change that, infinite where
        anyone may)."""


def finder_of(vectors: Vectors) -> Finder:
    """The finder for so many vectors."""
    return Flat(vectors) if len(vectors) <= WHOLE else Inverted(vectors)


class Flat:
    """Compares with every vector.

    A matrix product tells who can be among the nearest, whatever it has lost to rounding; `apart` tells who is. So what
    is found for a row depends on it and on the vectors, and not on what else is asked. Where so many can be that this
    tells little, as among models that lie close together and far from where coordinates are seen from, it is done again
    in float64.
    """

    whole = True
    told = b"flat".ljust(16)

    def __init__(self, vectors: Vectors, among: Ints | None = None) -> None:
        """`among`: compare with these rows only, also with itself."""
        self._vectors = vectors
        self._among = among

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> tuple[Ints, Floats]:
        at, others = self._likely(rows, k, bounds, np.float32)
        vague = np.flatnonzero(np.bincount(at, minlength=len(rows)) > _VAGUE * k)
        if vague.size:
            sure = ~np.isin(at, vague)
            again, more = self._likely(rows[vague], k, bounds, np.float64)
            at, others = np.append(at[sure], vague[again]), np.append(others[sure], more)
        return nearest_among(self._vectors, rows, at, others, k, bounds)

    def _likely(self, rows: Ints, k: int, bounds: Bounds | None, dtype: type[np.floating[Any]]) -> tuple[Ints, Ints]:
        """Pairs (place among the rows, other vector): all that can be among the k nearest."""
        every = np.arange(len(self._vectors)) if self._among is None else self._among
        some = self._vectors[rows].astype(dtype, copy=False)
        products, sizes = np.empty((len(rows), len(every)), dtype), np.empty(len(every), dtype)
        # Of damaged weights squares may be too large for the dtype.
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(every), _BLOCK):
                block = slice(first, first + _BLOCK)
                part = self._vectors[block if self._among is None else every[block]].astype(dtype, copy=False)
                products[:, block] = some @ part.T
                sizes[block] = np.einsum("nd,nd->n", part, part)
            own = np.einsum("nd,nd->n", some, some)
        itself = rows if self._among is None else np.full(len(rows), -1)
        reach = None
        if bounds is not None:
            root = np.append(np.flatnonzero(every == bounds.root), -1)
            reach = bounds.reach[rows], bounds.reach[every], int(root[0]), SLACK
        at, others = screened(products, own, sizes, k, some.shape[1], itself, reach)
        return at, every[others]


class Inverted:
    """Compares with the vectors of the lists whose centres are nearest (FAISS, IVF), and with all where that finds too
    few.

    Centres are vectors that a digest chooses, and not means of all: one vector more seldom changes them, nor then which
    lists the others are in and look into. FAISS tells who can be among the nearest, and `apart` who is.
    """

    whole = False

    def __init__(self, vectors: Vectors) -> None:
        import faiss
        from faiss.contrib.ivf_tools import add_preassigned

        self._vectors = vectors
        n, dimensions = vectors.shape
        by_digest = {blake3(vectors[row].tobytes()).digest(16): row for row in range(n)}
        chosen = sorted(by_digest)[: 2 ** round(np.log2(np.sqrt(n)))]
        lists = len(chosen)
        self.told = blake3(b"".join(chosen)).digest(16)
        self._centres = np.array(sorted(by_digest[digest] for digest in chosen), np.int64)
        self._flat, self._near_centres = Flat(vectors), Flat(vectors, self._centres)
        self._probed = min(lists, max(_FEWEST, int(lists * _PROBED)))
        cells = [self._lists(np.arange(at, min(at + _BLOCK, n)), 1)[:, 0] for at in range(0, n, _BLOCK)]
        self._cells = np.concatenate(cells)
        self._by_cell = np.argsort(self._cells, kind="stable")
        self._starts = np.searchsorted(self._cells[self._by_cell], np.arange(lists + 1))
        self._quantizer = faiss.IndexFlatL2(dimensions)
        self._quantizer.add(vectors[self._centres])
        self._index = faiss.IndexIVFFlat(self._quantizer, dimensions, lists)
        self._index.nprobe = self._probed
        add_preassigned(self._index, vectors, self._cells)

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> tuple[Ints, Floats]:
        from faiss.contrib.ivf_tools import search_preassigned

        wide = min(len(self._vectors), _SPARE + (k if bounds is None else _WIDER * k))
        probes = self._lists(rows, self._probed)
        squared, found = search_preassigned(self._index, self._vectors[rows], wide, probes)
        at, place = np.nonzero((found >= 0) & (found != rows[:, None]))
        near, bound = nearest_among(self._vectors, rows, at, found[at, place], k, bounds)
        # Who was not found is at least as far as the last that was, but for rounding.
        beyond = squared[:, -1] * (1 - lost_to_rounding(self._vectors.shape[1], 2.0**-24))
        for i in np.flatnonzero((found[:, -1] >= 0) & ~(bound < beyond)).tolist():
            inside = np.concatenate([self._by_cell[self._starts[c] : self._starts[c + 1]] for c in probes[i]])
            inside = inside[inside != rows[i]]
            one = rows[i : i + 1]
            near[[i]], bound[[i]] = nearest_among(
                self._vectors, one, np.zeros(len(inside), np.int64), inside, k, bounds
            )
        short = np.flatnonzero(near[:, -1] < 0)
        if short.size:
            # Whoever comes may bring the others into the lists that are looked into.
            near[short], bound[short] = self._flat.nearest(rows[short], k, bounds)[0], np.inf
        return near, bound

    def looked_at(self, rows: Ints) -> float:
        """Share of all vectors that are in the lists which one of these rows looks into, on average."""
        sizes = np.diff(self._starts)[self._lists(rows, self._probed)].sum(axis=1)
        return float(sizes.mean()) / len(self._vectors)

    def _lists(self, rows: Ints, k: int) -> Ints:
        """b x k: numbers of the lists with the nearest centres."""
        return np.searchsorted(self._centres, self._near_centres.nearest(rows, k)[0])


def entering(vectors: Vectors, rows: Ints, bound: Floats) -> tuple[Ints, Ints, Floats]:
    """(P places among the rows, P other vectors, their P squared distances): all pairs that lie no farther apart than
    the bound (n) of the other."""
    found = []
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS]
        least = _least(vectors[some], vectors)
        at, others = np.nonzero(least <= bound)
        other = others != some[at]
        at, others = at[other], others[other]
        squared = apart(vectors, some[at], others)
        enters = squared <= bound[others]
        found.append((first + at[enters], others[enters], squared[enters]))
    nobody = np.empty(0, np.int64)
    at, others, squared = (np.concatenate(each) for each in zip((nobody, nobody, np.empty(0)), *found, strict=True))
    return at, others, squared


def _least(some: Vectors, part: Vectors) -> NDArray[np.float32]:
    """b x c: how near to b vectors c others can be, by a product of matrices."""
    # Of a sum of D products, of two norms and of a product of two vectors.
    error = np.float32(lost_to_rounding(some.shape[1], float(np.finfo(np.float32).eps) / 2))
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.einsum("nd,nd->n", some, some)[:, None] + np.einsum("nd,nd->n", part, part)
        least = sizes - 2 * (some @ part.T)
        told = sizes.max(initial=0) < np.finfo(np.float32).max / 8
        sizes *= error
        least -= sizes
    if not told:
        # Of damaged weights, whose squares are too large, nothing is told.
        least[~np.isfinite(least)] = -np.inf
    return np.asarray(least)


def nearest_among(
    vectors: Vectors, rows: Ints, at: Ints, others: Ints, k: int, bounds: Bounds | None
) -> tuple[Ints, Floats]:
    """`Finder.nearest` of pairs (place among the rows, other vector)."""
    squared = apart(vectors, rows[at], others)
    if bounds is not None:
        allowed = ~bounds.forbid(rows[at], others, squared)
        at, others, squared = at[allowed], others[allowed], squared[allowed]
    order = np.lexsort((others, squared, at))
    at, others, squared = at[order], others[order], squared[order]
    place = np.arange(at.size) - np.searchsorted(at, at)
    kept = place < k
    near, bound = np.full((len(rows), k), -1), np.full(len(rows), np.inf)
    near[at[kept], place[kept]] = others[kept]
    last = place == k - 1
    bound[at[last]] = squared[last]
    return near, bound
