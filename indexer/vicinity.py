"""Who is near whom in a large component: a search over a part of the samples, ranked again over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import Bounds, Finder, apart
from indexer.kept_lists import FRESH, GONE, Records

__all__ = ["coordinates", "listed", "nearest_kept", "nearest_of", "row_of"]

DIMENSIONS: Final = 1024
"""Coordinates of the first search: squared distances of relatives, which differ by factors, to 4 %."""
SPARE: Final = 16
"""Rows beyond those asked for that the first search hands to the second."""
_BLOCK: Final = 256
"""Rows that are searched for together, of up to so many vectors:"""
_VECTORS: Final = 16_384
_MANY: Final = 4
"""Where more than one row in so many is new, all are searched for."""

Ints = NDArray[np.int64]


def coordinates(family: Family) -> NDArray[np.float32]:
    """n x at most DIMENSIONS: a prefix of each measured tensor's samples less those of one member, scaled so that
    squared distances estimate those of whole models. The member is the one whose content hash comes first."""
    first_of_all = min(range(len(family)), key=lambda row: family.content_hashes[row])
    every = np.arange(len(family))
    # Members of a family agree in all but a thousandth of their size, which float32 would not resolve.
    parts = [(part - part[first_of_all]) * scale for part, scale in _prefixes(family, every)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)


def row_of(n: int, k: int, *more: tuple[Any, ...]) -> np.dtype[np.void]:
    """A record of one of n models: `near`, those that the first search found, nearest first by all samples, of which k
    are asked for; their `squared` distances, infinite where there are fewer or nothing is shared; and `bound`, how near
    by coordinates another must be to be among them."""
    width = max(1, min(k + SPARE, n - 1))
    return np.dtype([("near", "<i4", (width,)), ("squared", "<f8", (width,)), ("bound", "<f8"), *more])


def listed(
    family: Family,
    finder: Finder,
    vectors: NDArray[np.float32],
    records: Records,
    kept: Records | None,
    bounds: Bounds | None = None,
) -> Ints:
    """Fill the lists of n `records`, from those that were `kept` where they hold; which rows were searched for.

    A list holds as long as all of it are there and nobody came that is nearer than its last by coordinates. With
    `bounds` it is of possible parents: a popular model's own children crowd any list of its nearest, but they lie
    beyond it.
    """
    n = len(vectors)
    rows = np.arange(n)
    if kept is not None:
        rows = _touched(vectors, kept, bounds)
        if rows.size * _MANY > n:
            rows = np.arange(n)
        else:
            records[:] = kept
    width = records["near"].shape[1]
    size = max(1, min(_BLOCK, _BLOCK * _VECTORS // n))
    for first in range(0, rows.size, size):
        block = rows[first : first + size]
        found, bound = finder.nearest(block, width, bounds)
        # Of those that are equally far by all samples the lower row is nearer.
        near = np.sort(found, axis=1)
        exact = np.full(near.shape, np.inf)
        at = np.nonzero(near >= 0)
        exact[at] = squared_distances(family, block[at[0]], near[at])[0]
        order = np.argsort(exact, axis=1, kind="stable")
        records["near"][block] = np.take_along_axis(near, order, axis=1)
        records["squared"][block], records["bound"][block] = np.take_along_axis(exact, order, axis=1), bound
    return rows


def _touched(vectors: NDArray[np.float32], kept: Records, bounds: Bounds | None) -> Ints:
    """Rows whose lists do not hold any more, or that have none."""
    fresh = np.flatnonzero((kept["near"] == FRESH).all(axis=1))
    touched = ((kept["near"] == FRESH) | (kept["near"] == GONE)).any(axis=1)
    if touched.sum() * _MANY > len(touched):
        return np.flatnonzero(touched)
    for row in fresh.tolist():
        others = np.flatnonzero(~touched)
        squared = apart(vectors, others, np.full(others.size, row))
        enters = squared <= kept["bound"][others]
        if bounds is not None:
            enters &= ~bounds.forbid(others, np.full((others.size, 1), row), squared[:, None])[:, 0]
        touched[others[enters]] = True
    return np.flatnonzero(touched)


def nearest_of(records: Records, k: int) -> Ints:
    """n x k: the lists, -1 where nothing is shared or there are fewer."""
    near, squared = records["near"][:, :k], records["squared"][:, :k]
    return np.where(np.isfinite(squared), near, -1).astype(np.int64)


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
