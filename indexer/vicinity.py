"""Who is near whom in a large component: a search over a part of the samples, ranked again over all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.blocks import in_blocks
from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import Bounds, Finder, entering, nearest_among
from indexer.kept_lists import FRESH, Records
from store.vectors import let_go

__all__ = ["MOST", "coordinates", "listed", "nearest_of", "nonzero", "row_of", "seen_from"]

MOST: Final = 1e18
"""Larger coordinates are damaged, and all the same; squares of these are no infinity in float64."""
SPARE: Final = 16
"""Rows beyond those asked for that the first search hands to the second."""
_BLOCK: Final = 256
"""Rows that are searched for together: of fewer, a product of matrices takes up to twice as long a row."""
_MANY: Final = 4
"""Where more than one row in so many is new or lost one of its list, all are searched for."""

Ints = NDArray[np.int64]


def seen_from(family: Family) -> Ints:
    """The members, three at most, that coordinates are seen from: those whose content hashes come first."""
    return np.array(sorted(range(len(family)), key=lambda row: family.content_hashes[row])[:3], np.int64)


def coordinates(family: Family, threads: int = 1) -> NDArray[np.float32]:
    """n x some 1,024: a prefix of each measured tensor's samples less the median of those of three members,
    scaled so that squared distances estimate those of whole models; none beyond MOST."""
    # Members of a family agree in all but a thousandth of their size, which float32 would not resolve. Of three members
    # a damaged one, from which all others are equally far, is outvoted.
    held, rows = family.prefixes
    middle = np.median(held[rows[seen_from(family)]].astype(np.float64), axis=0)
    scales = np.sqrt(family.elements / np.array(family.prefix_sizes))
    told = middle, np.repeat(scales, family.prefix_sizes)
    out = np.empty((len(rows), held.shape[1]), np.float32)
    # Into one array: put together afterwards, they would be there twice.
    in_blocks(len(rows), threads, lambda some: _see(held, rows[some], *told, out[some]))
    let_go(held)
    return out


@njit(cache=True, nogil=True)
def _see(
    prefix: NDArray[Any],
    rows: Ints,
    middle: NDArray[np.float64],
    scale: NDArray[np.float64],
    out: NDArray[np.float32],
) -> Ints:
    for i in range(rows.size):
        own = prefix[rows[i]]
        for j in range(own.size):
            value = (np.float64(own[j]) - middle[j]) * scale[j]
            out[i, j] = min(max(value, -MOST), MOST) if value == value else value
    return rows


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
    threads: int = 1,
) -> tuple[Ints, Ints]:
    """Fill the lists of n `records`, from those that were `kept` where they hold; (the r rows where they do not, r x
    width: which places those in their lists had in what was kept, -1 for who was in none).

    A list loses who goes, and then all are searched for it; and who comes enters it that is nearer than its last by
    coordinates. With `bounds` it is of possible parents: a popular model's own children crowd any list of its nearest,
    but they lie beyond it. So many `threads` search.
    """
    n, width = len(vectors), records["near"].shape[1]
    rows, gained, pairs = np.arange(n), np.empty(0, np.int64), np.empty((2, 0), np.int64)
    lost = np.ones(n, bool) if kept is None else np.asarray((kept["near"] <= FRESH).any(axis=1))
    if kept is not None and lost.sum() * _MANY <= n:
        records[:] = kept
        pairs = _entered(vectors, kept, lost, bounds)
        if finder.whole:
            gained = np.unique(pairs[0])
        else:
            lost[pairs[0]] = True
        rows = np.flatnonzero(lost)
    blocks = [rows[first : first + _BLOCK] for first in range(0, rows.size, _BLOCK)]
    # Products of matrices and what is compared of them let others run.
    with ThreadPoolExecutor(threads) as pool:
        nearest = list(pool.map(lambda block: finder.nearest(block, width, bounds), blocks))
    if kept is not None:
        changed = np.append(rows, gained)
        _look_ahead(family, kept, changed, [found.reshape(-1) for found, _ in nearest])
    places = [np.empty((0, width), np.int64)]
    for block, told in zip(blocks, nearest, strict=True):
        places.append(_note(family, records, kept, block, *told))
    for first in range(0, gained.size, _BLOCK):
        block = gained[first : first + _BLOCK]
        came = pairs[:, np.isin(pairs[0], block)]
        at, place = np.nonzero(records["near"][block] >= 0)
        ends = np.append(at, np.searchsorted(block, came[0])), np.append(records["near"][block[at], place], came[1])
        places.append(_note(family, records, kept, block, *nearest_among(vectors, block, *ends, width, bounds)))
    return np.append(rows, gained), np.concatenate(places)


def _look_ahead(family: Family, kept: Records, changed: Ints, found: list[Ints]) -> None:
    """Read at a time whom all that follows looks at: rows whose lists change, who is or was in these, and who has such
    a row in its own."""
    near = np.maximum(kept["near"], -1)
    asked = np.zeros(len(family) + 1, bool)
    asked[changed] = True
    listing = asked[near].any(axis=1)
    asked[near[changed]] = True
    asked[np.concatenate([changed[:0], *found])] = True
    family.samples.at_hand(np.flatnonzero(asked[:-1] | listing))


def _entered(vectors: NDArray[np.float32], kept: Records, lost: NDArray[np.bool_], bounds: Bounds | None) -> Ints:
    """2 x P: rows that lost nobody, and new ones that are near enough for their lists."""
    fresh = np.flatnonzero((kept["near"] == FRESH).all(axis=1))
    at, rows, squared = entering(vectors, fresh, np.where(lost, -1.0, kept["bound"]))
    if bounds is not None:
        allowed = ~bounds.forbid(rows, fresh[at], squared)
        at, rows = at[allowed], rows[allowed]
    return np.stack([rows, fresh[at]])


def _note(
    family: Family, records: Records, kept: Records | None, rows: Ints, found: Ints, bound: NDArray[np.float64]
) -> Ints:
    """Put b x width that were found for some rows in their order by all samples; as `listed`, the places they had."""
    # Of those that are equally far by all samples the lower row is nearer.
    near = np.sort(found, axis=1)
    exact, places = np.full(near.shape, np.inf), np.full(near.shape, -1)
    if kept is not None:
        row, now, before = np.nonzero((near[:, :, None] == kept["near"][rows][:, None, :]) & (near >= 0)[:, :, None])
        exact[row, now], places[row, now] = kept["squared"][rows[row], before], before
    at = np.nonzero((near >= 0) & (places < 0))
    exact[at] = squared_distances(family, rows[at[0]], near[at])[0]
    order = np.argsort(exact, axis=1, kind="stable")
    records["near"][rows] = np.take_along_axis(near, order, axis=1)
    records["squared"][rows], records["bound"][rows] = np.take_along_axis(exact, order, axis=1), bound
    return np.asarray(np.take_along_axis(places, order, axis=1))


def nearest_of(records: Records, k: int) -> Ints:
    """n x k: the lists, -1 where nothing is shared or there are fewer."""
    near, squared = records["near"][:, :k], records["squared"][:, :k]
    return np.where(np.isfinite(squared), near, -1).astype(np.int64)


def nonzero(family: Family, rows: Ints) -> NDArray[np.bool_]:
    """Rows x D: where the coordinate of `coordinates` is no zero of the row."""
    held, places = family.prefixes
    return np.asarray(held[places[rows]] != 0)
