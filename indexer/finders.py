"""The first search among the vectors of a large component: all of them while there are few, else the lists near each.

Both are functions of the vectors alone, so that lists do not depend on the order in which models came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SLACK", "Bounds", "Finder", "Flat", "Inverted", "finder_of"]

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

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Who may be a parent: whoever does not lie clearly farther from the root than the child. The root is left out."""

    reach: NDArray[np.float32]
    """n squared distances from the root."""
    root: int

    def forbid(self, rows: Ints, others: Ints, squared: NDArray[np.float32]) -> NDArray[np.bool_]:
        """b x k: which of `others` (b x k, or 1 x k for all) are no parents of the b rows; `squared` is b x k."""
        # The row itself may be infinitely far.
        with np.errstate(invalid="ignore"):
            back = SLACK * np.sqrt(squared) * np.sqrt(self.reach[others])
        return np.asarray((self.reach[others] > self.reach[rows][:, None] + back) | (others == self.root))


class Finder(Protocol):
    """Answers who is near among n vectors of D coordinates."""

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> Ints:
        """b x k: the nearest of each of b rows, itself left out, that bounds allow, in any order; -1 where there are
        fewer."""


def finder_of(vectors: Vectors) -> Finder:
    """The finder for so many vectors."""
    return Flat(vectors) if len(vectors) <= WHOLE else Inverted(vectors)


class Flat:
    """Compares with every vector."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._norms = np.einsum("nd,nd->n", vectors, vectors)

    def nearest(self, rows: Ints, k: int, bounds: Bounds | None = None) -> Ints:
        vectors, norms = self._vectors, self._norms
        squared = norms[rows, None] + norms[None, :] - 2 * (vectors[rows] @ vectors.T)
        np.maximum(squared, 0.0, out=squared)
        squared[np.arange(len(rows)), rows] = np.inf
        if bounds is not None:
            squared[bounds.forbid(rows, np.arange(len(vectors))[None, :], squared)] = np.inf
        near = np.argpartition(squared, k - 1, axis=1)[:, :k]
        return np.where(np.isfinite(np.take_along_axis(squared, near, axis=1)), near, -1)


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
            left_out |= bounds.forbid(rows, found, np.maximum(squared, 0.0))
        # Who is left moves up, nearest first.
        order = np.argsort(left_out, axis=1, kind="stable")[:, :k]
        near = np.where(np.take_along_axis(left_out, order, axis=1), -1, np.take_along_axis(found, order, axis=1))
        short = np.flatnonzero(near[:, -1] < 0)
        if short.size:
            near[short] = self._flat.nearest(rows[short], k, bounds)
        return np.asarray(near, np.int64)
