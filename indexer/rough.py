"""Rough likenesses of many models: in float32, or in a byte a coordinate where the processor multiplies these faster.

Each comes with how far it may be off, so which arithmetic it is of changes what it leaves in doubt, never an answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from indexer.codes import coded

if TYPE_CHECKING:
    import torch

__all__ = ["MANY", "ROUNDING", "Product", "Rough", "bytes_told", "floats", "rough"]

Ints = NDArray[np.int64]
Product = NDArray[np.float32] | NDArray[np.int32]

ROUNDING: Final = 1e-4
"""More than a product of matrices loses of a likeness: up to there, `indexer.shortlist.products` decides."""

MANY: Final = 30_000
"""Models whose comparison in float32 takes longer, by several times, than torch takes to be imported."""

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
    """Those of some rows with some others; overwritten by the next of the same thread."""
    scale: NDArray[np.float32]
    lost: NDArray[np.float32]
    threads: Executor | None = None
    """Where products take a thread each; else each takes all that BLAS has."""
    count: int = 0


@contextmanager
def rough(vectors: NDArray[np.float32], rows: Ints, block: int) -> Iterator[Rough]:
    """What is fastest here for those rows, in blocks of as many."""
    times = _faster(vectors.shape[1]) if len(rows) >= MANY and vectors.shape[1] <= _EXACT else None
    if times is None:
        yield floats(vectors, rows)
    else:
        with bytes_told(vectors, rows, times, block, _of_blas()) as found:
            yield found


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


@contextmanager
def bytes_told(vectors: NDArray[np.float32], rows: Ints, times: Times, block: int, count: int = 1) -> Iterator[Rough]:
    """In int8, of at most `block` x `block` at a time, by `count` threads.

    Each has a product of its own: several in one wait for the last of them each time, and on a machine that has other
    work to do there is always a last.
    """
    import torch

    codes = coded(vectors, rows)
    values = torch.from_numpy(codes.values)
    held = threading.local()

    def start() -> None:
        torch.set_num_threads(1)
        held.room = torch.empty(block * block, dtype=torch.int32)

    def product(some: slice, others: slice) -> Product:
        x, y = values[some], values[others]
        out = held.room[: len(x) * len(y)].view(len(x), len(y))
        times(x, y.T, out)
        return np.asarray(out.numpy())

    threads = ThreadPoolExecutor(count, initializer=start)
    try:
        with _threads(1):
            yield Rough(product, codes.scale, codes.lost, threads, count)
    finally:
        threads.shutdown(cancel_futures=True)


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
