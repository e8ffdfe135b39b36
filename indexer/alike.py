"""Who of many models may be alike: all are compared with all, roughly, and only those that may be are looked at again.

A rough likeness decides where it is certain, as it is of nearly all pairs: strangers are, and so are close relatives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.codes import LONGEST, SLACK
from indexer.rough import Product, Rough

__all__ = ["Runs", "apart", "are_one", "compared", "least_of"]

Ints = NDArray[np.int64]

_WIDTH: Final = 64
"""Likenesses of a row that are looked at together: mostly none of them is of a pair that may be alike."""


@dataclass(frozen=True, slots=True)
class Runs:
    """What is left of a product: R runs of `_WIDTH` in which there is a pair that may be alike."""

    at: NDArray[np.int32]
    """R x 2: row and first column of each."""
    values: Product
    """R x _WIDTH; nothing beyond the last column."""


def compared(found: Rough, blocks: Iterable[tuple[slice, slice]], least: float) -> Iterator[tuple[slice, slice, Runs]]:
    """Each block with what is left of it: all pairs whose likeness may be `least`. Threads go some blocks ahead."""

    def left(some: slice, others: slice) -> Runs:
        few, many = (found.scale[some], found.lost[some]), (found.scale[others], found.lost[others])
        at, values = _sieved(found.product(some, others), *few, *many, least - SLACK)
        return Runs(at, values)

    if found.threads is None:
        for some, others in blocks:
            yield some, others, left(some, others)
        return
    ahead: deque[tuple[slice, slice, Future[Runs]]] = deque()
    for some, others in blocks:
        ahead.append((some, others, found.threads.submit(left, some, others)))
        if len(ahead) > 2 * found.count:
            some, others, runs = ahead.popleft()
            yield some, others, runs.result()
    for some, others, runs in ahead:
        yield some, others, runs.result()


def apart(
    found: Rough,
    some: slice,
    others: slice,
    runs: Runs,
    labels: Ints,
    complete: NDArray[np.bool_],
    least: float,
    certain: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(places a, places b), a < b: all pairs of a block that is `compared` whose likeness may be `least`, and that are
    not in one component yet.

    Those that are certainly of likeness `certain` are joined in `labels` where both are `complete`: there each model's
    leads to the least of its component.
    """
    few, many = (found.scale[some], found.lost[some]), (found.scale[others], found.lost[others])
    lines, starts = (least - SLACK, certain + SLACK), (some.start, others.start)
    a, b = _picked(runs.at, runs.values, *few, *many, *lines, *starts, labels, complete)
    return a, b


@njit(cache=True, nogil=True)
def _sieved(
    product: Product,
    scale_a: NDArray[np.float32],
    lost_a: NDArray[np.float32],
    scale_b: NDArray[np.float32],
    lost_b: NDArray[np.float32],
    least: float,
) -> tuple[NDArray[np.int32], Any]:
    """`Runs`: all that most pairs are ever asked."""
    rows, columns = product.shape
    hits = np.empty((rows, -(-columns // _WIDTH)), np.bool_)
    total = 0
    for i in range(rows):
        floor, share = _line(scale_a[i], lost_a[i], least)
        row = product[i]
        for run in range(hits.shape[1]):
            first = run * _WIDTH
            count = 0
            if first + _WIDTH <= columns:
                # The same as below, of a length that the compiler knows: so it takes several at a time.
                for j in range(first, first + _WIDTH):
                    count += not (np.float32(row[j]) * scale_b[j] + share * lost_b[j] < floor)
            else:
                for j in range(first, columns):
                    count += not (np.float32(row[j]) * scale_b[j] + share * lost_b[j] < floor)
            hits[i, run] = count > 0
            total += count > 0
    at, values = np.empty((total, 2), np.int32), np.empty((total, _WIDTH), product.dtype)
    total = 0
    for i in range(rows):
        for run in range(hits.shape[1]):
            if hits[i, run]:
                first, last = run * _WIDTH, min((run + 1) * _WIDTH, columns)
                at[total, 0], at[total, 1] = i, first
                values[total, : last - first] = product[i, first:last]
                total += 1
    return at, values


@njit(cache=True, nogil=True)
def _line(scale: np.float32, lost: np.float32, least: float) -> tuple[np.float32, np.float32]:
    """(floor, share), of scale_a scale_b product + lost_a LONGEST + (LONGEST + lost_a) lost_b >= least, divided by
    scale_a. What is not a number is not less: such pairs are looked at.
    """
    return np.float32((least - lost * LONGEST) / scale), np.float32((LONGEST + lost) / scale)


@njit(cache=True, nogil=True)
def _picked(
    at: NDArray[np.int32],
    values: Product,
    scale_a: NDArray[np.float32],
    lost_a: NDArray[np.float32],
    scale_b: NDArray[np.float32],
    lost_b: NDArray[np.float32],
    least: float,
    certain: float,
    first_a: int,
    first_b: int,
    labels: Ints,
    complete: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`apart`."""
    a, b = np.empty(values.size, np.int32), np.empty(values.size, np.int32)
    count = 0
    for run in range(len(at)):
        i, first = at[run]
        u = first_a + i
        floor, share = _line(scale_a[i], lost_a[i], least)
        # What was lost speaks against them here: hence its other sign.
        bar, _ = _line(scale_a[i], -lost_a[i], certain)
        for j in range(first, min(first + _WIDTH, len(scale_b))):
            v = first_b + j
            alike, off = np.float32(values[run, j - first]) * scale_b[j], share * lost_b[j]
            if alike + off < floor or v <= u:
                continue
            low, high = least_of(labels, u), least_of(labels, v)
            if low == high:
                continue
            if alike - off >= bar and complete[u] and complete[v]:
                labels[max(low, high)] = min(low, high)
            else:
                a[count], b[count] = u, v
                count += 1
    return a[:count].copy(), b[:count].copy()


@njit(cache=True, nogil=True)
def are_one(labels: Ints, first_a: int, stop_a: int, first_b: int, stop_b: int) -> bool:
    """Are all from `first_a` and all from `first_b` on of one component by now?"""
    least = least_of(labels, first_a)
    for first, stop in ((first_a, stop_a), (first_b, stop_b)):
        for at in range(first, stop):
            if least_of(labels, at) != least:
                return False
    return True


@njit(cache=True, nogil=True)
def least_of(labels: Ints, at: int) -> int:
    """Where labels lead from here; shortens the way."""
    while labels[at] != at:
        labels[at] = labels[labels[at]]
        at = labels[at]
    return at
