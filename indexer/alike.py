"""Who of many models may be alike: all are compared with all, roughly, and only those that may be are looked at again.

A rough likeness comes with how far it may be off. It decides where it is certain; which arithmetic it is of changes
what is left in doubt, and never an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from indexer.codes import LONGEST, SLACK, coded

if TYPE_CHECKING:
    import torch

__all__ = ["MANY", "ROUNDING", "Rough", "apart", "bytes_told", "floats", "least_of", "rough"]

Ints = NDArray[np.int64]
Product = NDArray[np.float32] | NDArray[np.int32]

ROUNDING: Final = 1e-4
"""More than a product of matrices loses of a likeness: up to there, `indexer.shortlist.products` decides."""

MANY: Final = 30_000
"""Models whose comparison in float32 takes longer, by several times, than torch takes to be imported."""

_WIDTH: Final = 64
"""Likenesses of a row that are looked at together: mostly none of them is of a pair that may be alike."""
_EXACT: Final = 2**24 // 127**2
"""Coordinates of which float32 sums products of codes without rounding: so it can tell whether the bytes' sums are."""
_GAIN: Final = 1.5
"""Times as fast as float32 the bytes have to be. Where a processor has no instruction for them they are slower."""
_TRIED: Final = 1024
_TIMES: Final = 3


@dataclass(frozen=True, slots=True)
class Rough:
    """Rough likenesses of n models, as `indexer.codes.Codes` has them: scale * scale * product, and what that lost."""

    product: Callable[[slice, slice], Product]
    """Those of some rows with some others; overwritten by the next."""
    scale: NDArray[np.float32]
    lost: NDArray[np.float32]


@contextmanager
def rough(vectors: NDArray[np.float32], rows: Ints, block: int) -> Iterator[Rough]:
    """What is fastest here for those rows, in blocks of as many."""
    times = _faster(vectors.shape[1]) if len(rows) >= MANY and vectors.shape[1] <= _EXACT else None
    if times is None:
        yield floats(vectors, rows)
    else:
        with _threads(_of_blas()):
            yield bytes_told(vectors, rows, times, block)


def floats(vectors: NDArray[np.float32], rows: Ints) -> Rough:
    """In float32."""
    held: tuple[slice, NDArray[np.float32]] | None = None

    def product(some: slice, others: slice) -> Product:
        nonlocal held
        if held is None or held[0] != some:
            held = some, np.ascontiguousarray(vectors[rows[some]])
        return np.asarray(held[1] @ vectors[rows[others]].T)

    return Rough(product, np.ones(len(rows), np.float32), np.full(len(rows), ROUNDING, np.float32))


Times = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], Any]
"""(m x D int8, D x k int8, m x k int32): writes their product."""


def bytes_told(vectors: NDArray[np.float32], rows: Ints, times: Times, block: int) -> Rough:
    """In int8, of at most `block` x `block` at a time."""
    import torch

    codes = coded(vectors, rows)
    values = torch.from_numpy(codes.values)
    room = torch.empty(block * block, dtype=torch.int32)

    def product(some: slice, others: slice) -> Product:
        x, y = values[some], values[others]
        out = room[: len(x) * len(y)].view(len(x), len(y))
        times(x, y.T, out)
        return np.asarray(out.numpy())

    return Rough(product, codes.scale, codes.lost)


def _faster(dimensions: int) -> Times | None:
    """torch's product of bytes, where there is one that is right and faster than that of floats.

    Without an instruction for it, libraries add pairs of products in 16 bits, which saturate: the largest codes tell.
    """
    try:
        import torch

        def times(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
            torch._int_mm(x, y, out=out)

        rng = np.random.default_rng(0)
        codes = rng.choice(np.array([-127, 126, 127], np.int8), (_TRIED, dimensions))
        codes[:8] = 127
        single, values = codes.astype(np.float32), torch.from_numpy(codes)
        out = torch.empty((_TRIED, _TRIED), dtype=torch.int32)
        # The threads of one library wait in circles for a while, in the way of the other's.
        with _threads(1), threadpool_limits(1, "blas"):
            bytes_s = min(_seconds(lambda: times(values, values.T, out)) for _ in range(_TIMES))
            floats_s = min(_seconds(lambda: single @ single.T) for _ in range(_TIMES))
    except (ImportError, OSError, AttributeError, RuntimeError):
        # Not installed or not whole, or of another version: this is no part of torch that it promises.
        return None
    return times if _GAIN * bytes_s < floats_s and np.array_equal(out.numpy(), single @ single.T) else None


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch with as many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_blas() -> int:
    """Threads that matrix products have now: who limits these means us too."""
    return max([int(each["num_threads"]) for each in threadpool_info() if each["user_api"] == "blas"] or [1])


def apart(
    found: Rough, some: slice, others: slice, labels: Ints, complete: NDArray[np.bool_], least: float, certain: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(places a, places b), a < b: all pairs of `some` and `others` whose likeness may be `least` and that are not in
    one component yet.

    Those that are certainly of likeness `certain` are joined in `labels` where both are `complete`: there each model's
    leads to the least of its component.
    """
    product = found.product(some, others)
    few, many = (found.scale[some], found.lost[some]), (found.scale[others], found.lost[others])
    hits = np.empty((product.shape[0], -(-product.shape[1] // _WIDTH)), np.bool_)
    _sieve(product, *few, *many, least - SLACK, hits)
    starts = some.start, others.start
    a, b = _picked(product, *few, *many, least - SLACK, certain + SLACK, hits, *starts, labels, complete)
    return a, b


@njit(cache=True, nogil=True)
def _sieve(
    product: Product,
    scale_a: NDArray[np.float32],
    lost_a: NDArray[np.float32],
    scale_b: NDArray[np.float32],
    lost_b: NDArray[np.float32],
    least: float,
    hits: NDArray[np.bool_],
) -> None:
    """In which runs of `_WIDTH` there is a pair that may be as alike: all that most pairs are ever asked."""
    columns = product.shape[1]
    for i in range(product.shape[0]):
        floor, share = _line(scale_a[i], lost_a[i], least)
        row = product[i]
        for at in range(hits.shape[1]):
            first = at * _WIDTH
            count = 0
            if first + _WIDTH <= columns:
                # The same as below, of a length that the compiler knows: so it takes 16 at a time.
                for j in range(first, first + _WIDTH):
                    count += not (np.float32(row[j]) * scale_b[j] + share * lost_b[j] < floor)
            else:
                for j in range(first, columns):
                    count += not (np.float32(row[j]) * scale_b[j] + share * lost_b[j] < floor)
            hits[i, at] = count > 0


@njit(cache=True, nogil=True)
def _line(scale: np.float32, lost: np.float32, least: float) -> tuple[np.float32, np.float32]:
    """(floor, share), of scale_a scale_b product + lost_a LONGEST + (LONGEST + lost_a) lost_b >= least, divided by
    scale_a. What is not a number is not less: such pairs are looked at.
    """
    return np.float32((least - lost * LONGEST) / scale), np.float32((LONGEST + lost) / scale)


@njit(cache=True, nogil=True)
def _picked(
    product: Product,
    scale_a: NDArray[np.float32],
    lost_a: NDArray[np.float32],
    scale_b: NDArray[np.float32],
    lost_b: NDArray[np.float32],
    least: float,
    certain: float,
    hits: NDArray[np.bool_],
    first_a: int,
    first_b: int,
    labels: Ints,
    complete: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`apart`, in the runs of `_WIDTH` that `hits` names."""
    a, b = np.empty(product.size, np.int32), np.empty(product.size, np.int32)
    count = 0
    for i in range(product.shape[0]):
        u = first_a + i
        floor, share = _line(scale_a[i], lost_a[i], least)
        # What was lost speaks against them here: hence its other sign.
        bar, _ = _line(scale_a[i], -lost_a[i], certain)
        for at in range(hits.shape[1]):
            if not hits[i, at]:
                continue
            for j in range(at * _WIDTH, min((at + 1) * _WIDTH, product.shape[1])):
                v = first_b + j
                alike, off = np.float32(product[i, j]) * scale_b[j], share * lost_b[j]
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
def least_of(labels: Ints, at: int) -> int:
    """Where labels lead from here; shortens the way."""
    while labels[at] != at:
        labels[at] = labels[labels[at]]
        at = labels[at]
    return at
