"""Who is nearest to models with many zeros in what is no zero.

What magnitude pruning took away is the same for all relatives, and more than they differ by: so a pruned model's
nearest by all coordinates are other pruned ones. Lists are kept from one update to the next, as those of
`indexer.kept_lists` are: a list loses who goes, and is then searched for again; who comes is compared with all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.family import Family
from indexer.kept_lists import Kept
from indexer.memo import Memo
from indexer.screen import lost_to_rounding
from indexer.vicinity import nonzero

__all__ = ["FIGURES", "pruned_pairs"]

FIGURES: Final = 4
"""That are kept of each pair."""

_KIND: Final = "pruned"
_BLOCK: Final = 256
"""Rows that are searched for together."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Measure = Callable[[Ints, Ints], Floats]
"""Rows a and b of P pairs -> P x FIGURES."""


def pruned_pairs(
    family: Family,
    vectors: Vectors,
    rows: Ints,
    k: int,
    measure: Measure,
    memo: Memo | None = None,
    told: bytes = b"",
) -> tuple[Ints, Ints, Floats]:
    """(one of `rows`, another row, what `measure` says of the two) of P pairs: the k nearest of each row in the
    coordinates at which it is not zero, of two that are equally far the first.

    `vectors` are `indexer.vicinity.coordinates`; `told` is what those follow from beside each model. Lists that `memo`
    knows are not searched for again, nor are their pairs measured.
    """
    n = len(vectors)
    k = min(k, n - 1)
    if not rows.size:
        return rows, rows, np.empty((0, FIGURES))
    kind = np.dtype([("near", "<i4", (k,)), ("apart", "<f8", (k,)), ("figures", "<f8", (k, FIGURES))])
    kept = Kept(memo or Memo(), f"{_KIND} {kind.itemsize}", min(family.content_hashes), told)
    known = kept.read_few(family, kind, rows)
    before, fresh = (np.zeros(rows.size, kind), rows[:0]) if known is None else known
    records = np.zeros(rows.size, kind)
    lost = np.ones(rows.size, bool) if known is None else (before["near"] < 0).any(axis=1)
    masks = nonzero(family, rows)
    for first in range(0, int(lost.sum()), _BLOCK):
        block = np.flatnonzero(lost)[first : first + _BLOCK]
        for at, others in zip(block, _likely(vectors, rows[block], masks[block], k), strict=True):
            _note(records[at], others, _apart(vectors, rows[at], masks[at], others))
    for at in np.flatnonzero(~lost):
        # One that had a list is none of those that came.
        old = before[at]
        apart = np.append(old["apart"], _apart(vectors, rows[at], masks[at], fresh))
        _note(records[at], np.append(old["near"], fresh), apart)
    near = records["near"]
    row, now, then = np.nonzero((near[:, :, None] == before["near"][:, None, :]) & (known is not None))
    new = np.ones(near.shape, bool)
    new[row, now] = False
    figures = np.zeros((*near.shape, FIGURES))
    figures[row, now] = before["figures"][row, then]
    at, place = np.nonzero(new)
    figures[at, place] = measure(rows[at], near[at, place].astype(np.int64))
    records["figures"] = figures
    kept.write_few(family, records, rows)
    return np.repeat(rows, k), near.astype(np.int64).reshape(-1), figures.reshape(-1, FIGURES)


def _note(record: NDArray[np.void], others: Ints, apart: Floats) -> None:
    """Put the nearest into a record, in rising order."""
    nearest = np.lexsort((others, apart))[: record["near"].size]
    nearest = nearest[np.argsort(others[nearest])]
    record["near"], record["apart"] = others[nearest], apart[nearest]


def _likely(vectors: Vectors, rows: Ints, masks: NDArray[np.bool_], k: int) -> list[Ints]:
    """Of each of some rows all that can be among its k nearest, whatever a product of matrices has lost to rounding."""
    weights = masks.astype(np.float32)
    own = vectors[rows] * weights
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.einsum("nd,nd->n", own, own)[:, None] + weights @ (vectors**2).T
        squared = sizes - 2 * (own @ vectors.T)
        error = np.float32(lost_to_rounding(vectors.shape[1], 2.0**-24)) * sizes
        least, most = squared - error, squared + error
    # Of damaged weights, whose squares are too large, nothing is told.
    unknown = ~(np.isfinite(least) & np.isfinite(most))
    least[unknown], most[unknown] = -np.inf, np.inf
    itself = np.arange(len(rows)), rows
    least[itself] = most[itself] = np.inf
    within = np.partition(most, k - 1, axis=1)[:, k - 1 : k]
    return [np.flatnonzero(near) for near in (least <= within) & (least < np.inf)]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _apart(vectors: Vectors, row: int, mask: NDArray[np.bool_], others: Ints) -> Floats:
    """Squared distances of a row from others where `mask` holds, summed in one order whatever is asked beside them."""
    own = vectors[row]
    weight = mask.astype(np.float64)
    out = np.empty(others.size)
    for p in range(others.size):
        other = vectors[others[p]]
        total = 0.0
        for j in range(own.size):
            d = (np.float64(own[j]) - np.float64(other[j])) * weight[j]
            total += d * d
        out[p] = total
    return out
