"""Components solved in processes of their own, where there is enough to do: each is a pure function of its members."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexer.family import Family
from indexer.memo import Answers
from indexer.metadata import Metadata
from indexer.solve import Component, solve_component
from store.errors import StopError
from store.progress import Progress

__all__ = ["Task", "Workers", "solve_all"]

LEAST: Final = 1_000
"""Models beside the largest component that other processes are worth: starting one takes as long as some hundred."""
_REMEMBERED: Final = 0.2
"""What a model costs of which answers are remembered, beside one that is new."""
_AHEAD: Final = 2
"""Tasks a process that are handed out before one is done: no more of the families are held twice."""


@dataclass(frozen=True, slots=True)
class Task:
    """A component to solve: some rows of a family, and arguments of `solve_component`."""

    family: Family
    rows: NDArray[np.int64]
    metadata: Metadata | None
    infer: bool
    stored: Answers

    def solve(self) -> Component:
        return solve_component(self.family.take(self.rows), self.metadata, infer=self.infer, stored=self.stored)

    def alone(self) -> Task:
        """The same with a family of these rows only, without what can be worked out again."""
        return replace(self, family=replace(self.family.take(self.rows)), rows=np.arange(len(self.rows)))


class Workers:
    """At most `count` processes, started when they are first needed and ended with the `with` block.

    They end with this process too, however it ends: each waits for the other end of a pipe to close.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._alive: Connection | None = None

    @property
    def pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked: the database and BLAS have threads.
            context = multiprocessing.get_context("spawn")
            ends, self._alive = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(self.count, context, _begin, (ends,))
        return self._pool

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None or self._alive is None:
            return
        if kind is not None:
            # Whoever stops a run does not wait for a large tree. And a task that is half handed over to a process that
            # was killed would be waited for without end (CPython 94777), were the queue left open.
            self._alive.close()
            queue = getattr(self._pool, "_call_queue", None)
            if queue is not None:
                queue._reader.close()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._alive.close()


def _begin(alive: Connection) -> None:
    """In a new process: leave Ctrl-C to the one that started it, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)

    def watch() -> None:
        try:
            alive.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def solve_all(tasks: Sequence[Task], workers: Workers, progress: Progress) -> list[Component]:
    """The components of the tasks, in their order. Raises StopError when a process is killed."""
    found: dict[int, Component] = {}
    try:
        for at, component in _solved(tasks, workers):
            found[at] = component
            progress.advance(0, f"{len(found):,} of {len(tasks):,} trees")
    except BrokenProcessPool as error:
        raise StopError(
            "a process that recovered trees was killed, perhaps for want of memory; run it again with --jobs 1"
        ) from error
    return [found[at] for at in range(len(tasks))]


def _solved(tasks: Sequence[Task], workers: Workers) -> Iterator[tuple[int, Component]]:
    """(place, component) of each, largest first, as they are done."""
    order = sorted(range(len(tasks)), key=lambda at: -len(tasks[at].rows))
    work = [len(task.rows) * (_REMEMBERED if task.stored else 1.0) for task in tasks if len(task.rows) > 1]
    if workers.count < 2 or sum(work) - max(work, default=0.0) < LEAST:
        for at in order:
            yield at, tasks[at].solve()
        return
    running: dict[Future[list[Component]], list[int]] = {}
    for batch in _batches(tasks, order, sum(len(task.rows) for task in tasks) // (8 * workers.count)):
        running[workers.pool.submit(_solve, [tasks[at].alone() for at in batch])] = batch
        if len(running) >= _AHEAD * workers.count:
            yield from _done(running)
    while running:
        yield from _done(running)


def _batches(tasks: Sequence[Task], order: Iterable[int], models: int) -> Iterator[list[int]]:
    """Tasks in turn, small ones together: handing over costs as much as solving them."""
    batch: list[int] = []
    held = 0
    for at in order:
        batch.append(at)
        held += len(tasks[at].rows)
        if held >= models:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _solve(tasks: list[Task]) -> list[Component]:
    return [task.solve() for task in tasks]


def _done(running: dict[Future[list[Component]], list[int]]) -> Iterator[tuple[int, Component]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield from zip(running.pop(future), future.result(), strict=True)
