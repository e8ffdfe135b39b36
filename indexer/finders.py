"""The first search among the vectors of a large component: all of them while there are few, else the lists near each.

Both are functions of the vectors alone, so that lists do not depend on the order in which models came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["SLACK", "Bounds", "Finder", "Flat", "Inverted", "apart", "finder_of"]

SLACK: Final = 0.2
"""Cosine, times two, with its grandparent's side by which a step may lead back towards the root (see `SLANT`)."""
WHOLE: Final = 16_384
"""Up to so many vectors each is compared with all."""
_PROBED: Final = 1 / 16
"""Share of the lists that are looked at."""
_FEWEST: Final = 8
"""Lists that are looked at, at least."""
_WIDER: Final = 4
"""Times as many are looked at where bounds leave some out."""
_TRAINED: Final = 64
"""Vectors a list that the centres are trained on."""
_VAGUE: Final = 4
"""Times as many as are asked for that can be among the nearest: float64 tells more."""
_BLOCK: Final = 8_192

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

    def forbid(self, rows: Ints, others: Ints, squared: NDArray[Any], lenience: float = 0.0) -> NDArray[np.bool_]:
        """b x k: which of `others` (b x k, or 1 x k for all) are no parents of the b rows; `squared` is b x k.

        In the dtype of `squared`. With `lenience` those that are so by no more than that part count as allowed.
        """
        reach = self.reach.astype(squared.dtype)
        away = reach[others]
        # The row itself may be infinitely far.
        with np.errstate(invalid="ignore"):
            back = squared.dtype.type(SLACK) * np.sqrt(np.maximum(squared, 0)) * np.sqrt(away)
        far = away * squared.dtype.type(1 - lenience) > reach[rows][:, None] + back
        return np.asarray(far | (others == self.root))


class Finder(Protocol):
    """Answers who is near among n vectors of D coordinates."""

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> Ints:
        """b x k: the nearest of each of b rows, itself left out, that bounds allow, nearest first; -1 where there are
        fewer."""


def finder_of(vectors: Vectors) -> Finder:
    """The finder for so many vectors."""
    return Flat(vectors) if len(vectors) <= WHOLE else Inverted(vectors)


class Flat:
    """Compares with every vector; of those that are equally far the lower row is nearer.

    A matrix product tells who can be among the nearest, whatever it has lost to rounding; `apart` tells who is. So what
    is found for a row depends on it and on the vectors, and not on what else is asked. Where so many can be that this
    tells little, as among models that lie close together and far from where coordinates are seen from, it is done again
    in float64.
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> Ints:
        at, others = self._likely(rows, k, bounds, np.float32)
        vague = np.flatnonzero(np.bincount(at, minlength=len(rows)) > _VAGUE * k)
        if vague.size:
            sure = ~np.isin(at, vague)
            again, more = self._likely(rows[vague], k, bounds, np.float64)
            at, others = np.append(at[sure], vague[again]), np.append(others[sure], more)
        return self._first(rows, at, others, k, bounds)

    def _likely(self, rows: Ints, k: int, bounds: Bounds | None, dtype: type[np.floating[Any]]) -> tuple[Ints, Ints]:
        """Pairs (place among the rows, other vector): all that can be among the k nearest."""
        n, dimensions = self._vectors.shape
        # Of a sum of D products, of two norms and of a product of two vectors.
        rounding = float(np.finfo(dtype).eps) / 2
        error = dtype(2 * (dimensions + 16) * rounding)
        some = self._vectors[rows].astype(dtype, copy=False)
        least, most = np.empty((2, len(rows), n), dtype)
        for first in range(0, n, _BLOCK):
            block = slice(first, min(first + _BLOCK, n))
            part = self._vectors[block].astype(dtype, copy=False)
            sizes = np.einsum("nd,nd->n", some, some)[:, None] + np.einsum("nd,nd->n", part, part)
            squared = sizes - 2 * (some @ part.T)
            sizes *= error
            least[:, block], most[:, block] = squared - sizes, squared + sizes
        if bounds is not None:
            every = np.arange(n)[None, :]
            sure = bounds.forbid(rows, every, least, -16 * rounding)
            least[bounds.forbid(rows, every, most, 16 * rounding)] = np.inf
            most[sure] = np.inf
        own = np.arange(len(rows)), rows
        least[own] = most[own] = np.inf
        within = np.partition(most, k - 1, axis=1)[:, k - 1 : k]
        at, others = np.nonzero((least <= within) & np.isfinite(least))
        return at, others

    def _first(self, rows: Ints, at: Ints, others: Ints, k: int, bounds: Bounds | None) -> Ints:
        """b x k, of pairs (place among the rows, other vector)."""
        squared = apart(self._vectors, rows[at], others)
        if bounds is not None:
            allowed = ~bounds.forbid(rows[at], others[:, None], squared[:, None])[:, 0]
            at, others, squared = at[allowed], others[allowed], squared[allowed]
        order = np.lexsort((others, squared, at))
        at, others = at[order], others[order]
        place = np.arange(at.size) - np.searchsorted(at, at)
        kept = place < k
        result = np.full((len(rows), k), -1)
        result[at[kept], place[kept]] = others[kept]
        return result


class Inverted:
    """Compares with the vectors of the lists whose centres are nearest (FAISS, IVF), and with all where that finds too
    few."""

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        self._vectors = vectors
        self._flat = Flat(vectors)
        n, dimensions = vectors.shape
        lists = max(1, int(np.sqrt(n)))
        self._centres = faiss.IndexFlatL2(dimensions)
        self._index = faiss.IndexIVFFlat(self._centres, dimensions, lists)
        self._index.cp.seed = 1
        self._index.cp.niter = 10
        self._index.cp.min_points_per_centroid = 1
        self._index.cp.max_points_per_centroid = _TRAINED
        self._index.nprobe = min(lists, max(_FEWEST, int(lists * _PROBED)))
        self._index.train(vectors)
        self._index.add(vectors)

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> Ints:
        most = len(self._vectors) - 1
        wide = min(most, k if bounds is None else _WIDER * k)
        squared, found = self._index.search(self._vectors[rows], wide + 1)
        left_out = (found < 0) | (found == rows[:, None])
        if bounds is not None:
            left_out |= bounds.forbid(rows, found, squared)
        # Who is left moves up, nearest first.
        order = np.argsort(left_out, axis=1, kind="stable")[:, :k]
        near = np.where(np.take_along_axis(left_out, order, axis=1), -1, np.take_along_axis(found, order, axis=1))
        short = np.flatnonzero(near[:, -1] < 0)
        if short.size:
            near[short] = self._flat.nearest(rows[short], k, bounds)
        return np.asarray(near, np.int64)
