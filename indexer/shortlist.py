"""Candidate relatives of every model of an architecture, through FAISS.

Two searches. The first, on normalised samples, asks who is related at all: correlations of .2 and above, for which
float32 is plenty. The second, within a component, asks who is nearest, on *residuals*: members of a family differ by a
thousandth of their size, which float32 cannot resolve until what they have in common is taken off.
"""

from __future__ import annotations

from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.family import Family

__all__ = ["DIMENSIONS", "nearest", "thinned"]

DIMENSIONS: Final = 1024
"""Coordinates a model in the first search: noise of a correlation 1/32."""

# Above this many queries FAISS switches to |x|^2 + |y|^2 - 2xy, which cancels.
_NEVER: Final = 1 << 30


def thinned(family: Family, rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """n x at most DIMENSIONS: a prefix of each tensor's normalised samples, each row of length 1 or 0."""
    total = int(family.starts[-1])
    keep = np.zeros(total, bool)
    for first, last in zip(family.starts[:-1], family.starts[1:], strict=True):
        size = int(last - first)
        keep[first : first + max(1, min(size, size * DIMENSIONS // max(1, total)))] = True
    # A tensor that gives up samples gives up weight with them, or the thin tensors would lead the fat ones.
    scale = np.repeat(
        [
            np.sqrt((last - first) / max(1, keep[first:last].sum()))
            for first, last in zip(family.starts[:-1], family.starts[1:], strict=True)
        ],
        np.diff(family.starts),
    )
    thin = rows[:, keep] * scale[keep]
    size = np.linalg.norm(thin, axis=1, keepdims=True)
    return np.ascontiguousarray(thin / np.where(size > 0, size, 1.0), np.float32)


def nearest(vectors: NDArray[Any], k: int, *, inner_product: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (a, b), a < b, such that one is among the k nearest of the other: exact, by a flat index.

    `vectors` is n x d, cast to float32: pass residuals where members of one family are compared.
    """
    n = len(vectors)
    k = min(k + 1, n)
    if n < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    data = np.ascontiguousarray(vectors, np.float32)
    faiss.cvar.distance_compute_blas_threshold = _NEVER
    index = faiss.IndexFlatIP(data.shape[1]) if inner_product else faiss.IndexFlatL2(data.shape[1])
    index.add(data)
    _, found = index.search(data, k)
    a = np.repeat(np.arange(n), k)
    b = found.reshape(-1)
    keep = (b >= 0) & (a != b)
    pairs = np.unique(np.stack([np.minimum(a, b)[keep], np.maximum(a, b)[keep]], axis=1), axis=0)
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
