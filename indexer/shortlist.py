"""Candidate relatives of every model of an architecture, through FAISS: who is related at all?

On normalised samples, for correlations of .2 and above, for which float32 is plenty. Who is nearest within a component
is another question (`indexer.vicinity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.family import Family

__all__ = ["DIMENSIONS", "layout_of", "nearest_relatives", "thinned"]

DIMENSIONS: Final = 1024
"""Coordinates a model in the first search: noise of a correlation 1/32."""


def layout_of(family: Family) -> dict[str, int]:
    """Measured tensor -> how many of its samples the first search looks at: at most DIMENSIONS in all."""
    total = int(family.starts[-1])
    return {
        t.name: max(1, min(m, m * DIMENSIONS // max(1, total))) for t in family.measured if (m := t.samples.shape[1])
    }


def thinned(family: Family, rows: NDArray[np.float32], layout: Mapping[str, int] | None = None) -> NDArray[np.float32]:
    """n x D: a prefix of each tensor's normalised samples, each row of length 1 or 0.

    `layout` is that of a larger family, D its sum; tensors that this one has not are zeros.
    """
    layout = layout_of(family) if layout is None else layout
    thin = np.zeros((len(family), sum(layout.values())))
    place = {tensor.name: at for at, tensor in enumerate(family.measured)}
    first = 0
    for name, kept in layout.items():
        if name in place:
            start, stop = family.starts[place[name]], family.starts[place[name] + 1]
            # A tensor that gives up samples gives up weight with them, or the thin tensors would lead the fat ones.
            thin[:, first : first + kept] = rows[:, start : start + kept] * np.sqrt((stop - start) / kept)
        first += kept
    size = np.linalg.norm(thin, axis=1, keepdims=True)
    return np.ascontiguousarray(thin / np.where(size > 0, size, 1.0), np.float32)


def nearest_relatives(
    vectors: NDArray[np.float32], k: int, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """(a, b, products, crowded): pairs of rows a < b of which one is among the k of largest inner product with the
    other, of at least `least`; and n, whether all k of a row are, so that there may be more. Exact, by a flat index.
    """
    n = len(vectors)
    k = min(k + 1, n)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    products, found = index.search(vectors, k)
    a = np.repeat(np.arange(n), k)
    b = found.reshape(-1)
    keep = (b >= 0) & (a != b) & (products.reshape(-1) >= least)
    pairs, first = np.unique(np.minimum(a, b)[keep] * n + np.maximum(a, b)[keep], return_index=True)
    return pairs // n, pairs % n, products.reshape(-1)[keep][first], (products[:, -1] >= least) & (k < n)
