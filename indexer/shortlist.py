"""Search vectors, by which candidate relatives are found among all models of an architecture: who is related at all?

On normalised samples, for correlations of .2 and above, for which float32 is plenty. Who is nearest within a component
is another question (`indexer.vicinity`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.distance import normalised
from indexer.family import Family

__all__ = ["DIMENSIONS", "layout_of", "products", "search_vectors", "thinned", "whole"]

DIMENSIONS: Final = 1024
"""Coordinates a model in the first search: noise of a correlation 1/32."""
_BLOCK: Final = 4096


def layout_of(family: Family) -> dict[str, int]:
    """Measured tensor -> how many of its samples the first search looks at: at most DIMENSIONS in all."""
    total = int(family.starts[-1])
    return {
        t.name: max(1, min(m, m * DIMENSIONS // max(1, total))) for t in family.measured if (m := t.samples.shape[1])
    }


def search_vectors(family: Family, layout: Mapping[str, int]) -> NDArray[np.float32]:
    """n x D: `thinned` of what `normalised` says, some models at a time."""
    vectors = np.empty((len(family), sum(layout.values())), np.float32)
    for first in range(0, len(family), _BLOCK):
        some = family.take(np.arange(first, min(first + _BLOCK, len(family))))
        vectors[first : first + len(some)] = thinned(some, normalised(some), layout)
    return vectors


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


def whole(vectors: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.bool_]:
    """n: whether a vector says something of each tensor, of which it has so many coordinates each. One that does not is
    of a model that lacks a tensor, or in which one is constant."""
    starts = np.cumsum([0, *sizes[:-1]])
    told = [np.logical_or.reduceat(block != 0, starts, axis=1).all(axis=1) for block in _blocks(vectors)]
    return np.concatenate([np.zeros(0, bool), *told])


def _blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (vectors[first : first + _BLOCK] for first in range(0, len(vectors), _BLOCK))


def products(vectors: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inner products of P pairs of rows, summed in one order whatever is asked beside them: a product of matrices goes
    by their shapes."""
    return np.asarray(_products(vectors, a, b))


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _products(vectors: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.empty(a.size)
    for p in range(a.size):
        x, y = vectors[a[p]], vectors[b[p]]
        total = 0.0
        for j in range(x.size):
            total += np.float64(x[j]) * np.float64(y[j])
        out[p] = total
    return out
