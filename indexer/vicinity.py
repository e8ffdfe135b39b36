"""Who is near whom in a large component: a search over a part of the samples, ranked again over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import Bounds, finder_of

__all__ = ["coordinates", "nearest_kept", "nearest_rows", "possible_parents", "recall"]

DIMENSIONS: Final = 1024
"""Coordinates of the first search: squared distances of relatives, which differ by factors, to 4 %."""
SPARE: Final = 16
"""Rows beyond those asked for that the first search hands to the second."""
_BLOCK: Final = 256

Ints = NDArray[np.int64]


def coordinates(family: Family) -> NDArray[np.float32]:
    """n x at most DIMENSIONS: a prefix of each measured tensor's samples less those of one member, scaled so that
    squared distances estimate those of whole models. The member is the one whose content hash comes first."""
    first_of_all = min(range(len(family)), key=lambda row: family.content_hashes[row])
    every = np.arange(len(family))
    # Members of a family agree in all but a thousandth of their size, which float32 would not resolve.
    parts = [(part - part[first_of_all]) * scale for part, scale in _prefixes(family, every)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)


def nearest_rows(family: Family, vectors: NDArray[np.float32], k: int) -> tuple[Ints, NDArray[np.float64]]:
    """(n x k rows nearest first, ties by lower row; n x k squared distances) of each row, itself left out."""
    return _search(family, vectors, k, None, None)


def recall(family: Family, near: Ints, rows: Ints) -> float:
    """Share of the true nearest of some rows, by all their samples and all models, that their lists `near` hold."""
    others = np.arange(len(family))
    found = wanted = 0
    for row in rows.tolist():
        squared = squared_distances(family, np.full(others.size, row), others)[0]
        squared[row] = np.inf
        listed = near[row][near[row] >= 0]
        true = np.argsort(squared, kind="stable")[: listed.size]
        found, wanted = found + len(np.intersect1d(true, listed)), wanted + listed.size
    return found / wanted if wanted else 1.0


def possible_parents(
    family: Family, vectors: NDArray[np.float32], k: int, reach: NDArray[np.float64], root: int
) -> tuple[Ints, NDArray[np.float64]]:
    """`nearest_rows` among those that may be a row's parent: which do not lie clearly farther from the root than it.

    `reach` (n) is the squared distance from the root, which is in no list. A popular model's own children crowd any
    list of its nearest, but they lie beyond it. Short lists end in -1 and infinity.
    """
    return _search(family, vectors, k, reach, root)


def nearest_kept(family: Family, vectors: NDArray[np.float32], rows: Ints, k: int) -> tuple[Ints, Ints]:
    """Pairs (one of `rows`, another row): the k nearest of each in the coordinates at which it is not zero.

    What magnitude pruning took away is the same for all its relatives, and more than they differ by.
    """
    n = len(vectors)
    k = min(k, n - 1)
    kept = _nonzero(family, rows)
    found = []
    for first in range(0, len(rows), _BLOCK):
        at = np.arange(first, min(first + _BLOCK, len(rows)))
        block, mask = vectors[rows[at]], kept[at]
        apart = (block**2 * mask).sum(axis=1)[:, None] + mask @ (vectors**2).T - 2 * ((block * mask) @ vectors.T)
        apart[np.arange(len(at)), rows[at]] = np.inf
        found.append(np.sort(np.argpartition(apart, k - 1, axis=1)[:, :k], axis=1))
    return np.repeat(rows, k), np.concatenate(found).reshape(-1) if found else np.empty(0, np.int64)


def _nonzero(family: Family, rows: Ints) -> NDArray[np.float32]:
    """Rows x D: 1 where the coordinate of `coordinates` is no zero of the row."""
    return np.concatenate([part != 0 for part, _ in _prefixes(family, rows)], axis=1).astype(np.float32)


def _prefixes(family: Family, rows: Ints) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Of each measured tensor, (a prefix of the rows' samples, the scale that makes up for the rest)."""
    total = int(family.starts[-1])
    for tensor, elements in zip(family.measured, family.elements, strict=True):
        size = tensor.samples.shape[1]
        kept = max(1, min(size, size * DIMENSIONS // max(1, total)))
        yield tensor.samples[rows, :kept], float(np.sqrt(elements / kept))


def _search(
    family: Family, vectors: NDArray[np.float32], k: int, reach: NDArray[np.float64] | None, root: int | None
) -> tuple[Ints, NDArray[np.float64]]:
    n = len(vectors)
    k = min(k, n - 1)
    asked = min(k + SPARE, n - 1)
    finder = finder_of(vectors)
    bounds = None if reach is None or root is None else Bounds(reach.astype(np.float32), root)
    rows, squared = np.full((n, k), -1), np.full((n, k), np.inf)
    for first in range(0, n, _BLOCK):
        block = np.arange(first, min(first + _BLOCK, n))
        near = np.sort(finder.nearest(block, asked, bounds), axis=1)
        exact = np.full(near.shape, np.inf)
        at = np.nonzero(near >= 0)
        exact[at] = squared_distances(family, block[at[0]], near[at])[0]
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        squared[block] = np.take_along_axis(exact, order, axis=1)
        rows[block] = np.where(np.isfinite(squared[block]), np.take_along_axis(near, order, axis=1), -1)
    return rows, squared
