"""Components solved in processes of their own, where there is enough to do: each is a pure function of its members."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexer.family import Family
from indexer.forks import end_with_parent
from indexer.metadata import Metadata
from indexer.solve import Component, is_large, solve_component
from store.answers import Answers
from store.errors import StopError
from store.progress import Progress

__all__ = ["Task", "Workers", "seldom_collected", "solve_all"]

LEAST: Final = 1_000
"""Models beside the largest component that other processes are worth: starting one takes as long as some hundred."""
_REMEMBERED: Final = 0.2
"""What a model costs of which answers are remembered, beside one that is new."""
_CROWDED: Final = 32_768
"""Models of a tree that takes gigabytes. Processes that are started again for what follows are little beside it."""
_COLLECTED: Final = 100_000
"""Objects made before Python looks for circles among them, in place of 700."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Solving a large tree makes a million small objects and no circles, and looking for these takes a seventh of an
    update."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass(frozen=True, slots=True)
class Task:
    """A component to solve: some rows of a family, and arguments of `solve_component`."""

    family: Family
    rows: NDArray[np.int64]
    metadata: Metadata | None
    infer: bool
    stored: Answers
    written: bool = False

    def solve(self, threads: int = 1) -> Component:
        return solve_component(
            self.family.take(self.rows),
            self.metadata,
            infer=self.infer,
            stored=self.stored,
            written=self.written,
            threads=threads,
        )

    def alone(self) -> Task:
        """The same with a family of these rows only, without what can be worked out again."""
        return replace(self, family=replace(self.family.take(self.rows)), rows=np.arange(len(self.rows)))


class Workers:
    """At most `count` processes, started when they are first needed and ended with the `with` block.

    Each has a pipe of its own, and a task is handed over only where one is waited for: so whichever end dies, the other
    finds its pipe closed. (A pool's shared queue can stall when a process is killed while it is read.)
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.started: dict[Connection, BaseProcess] = {}

    def start(self) -> None:
        """All of them, if there is none yet."""
        # Not forked: the database and BLAS have threads.
        context = multiprocessing.get_context("spawn")
        while len(self.started) < self.count:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.started[ours] = process

    def __enter__(self) -> Workers:
        return self

    def stop(self, at_once: bool = False) -> None:
        """End all of them, which wait for tasks; `at_once` those too that solve one."""
        for connection, process in self.started.items():
            connection.close()
            if at_once:
                process.kill()
        for process in self.started.values():
            process.join()
        self.started.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whoever stops a run does not wait for a large tree.
        self.stop(at_once=kind is not None)


def _serve(connection: Connection) -> None:
    """In a new process: solve what comes, until nothing can come any more."""
    # Ctrl-C is for the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        try:
            # Nothing of it is held while the next is waited for.
            connection.send(_answer(connection.recv()))
        except (EOFError, OSError):
            return


def _answer(tasks: Sequence[Task]) -> list[Component] | Exception:
    try:
        with seldom_collected():
            return [task.solve() for task in tasks]
    except Exception as error:  # noqa: BLE001 - raised by the one that waits for it
        return error


def solve_all(tasks: Sequence[Task], workers: Workers, progress: Progress) -> list[Component]:
    """The components of the tasks, in their order. Raises StopError when a process is killed."""
    found: dict[int, Component] = {}
    for at, component in _solved(tasks, workers, progress):
        found[at] = component
        progress.advance(0, f"{len(found):,} of {len(tasks):,} trees")
    return [found[at] for at in range(len(tasks))]


def _solved(tasks: Sequence[Task], workers: Workers, progress: Progress) -> Iterator[tuple[int, Component]]:
    """(place, component) of each, largest first, as they are done."""
    work = [len(task.rows) * (_REMEMBERED if task.stored else 1.0) * (len(task.rows) > 1) for task in tasks]
    order = sorted(range(len(tasks)), key=lambda at: -len(tasks[at].rows))
    left = sum(work)
    # What would be the last to end is done by all, and so are the few that others are not worth.
    while order:
        at = order[0]
        last = is_large(len(tasks[at].rows)) and work[at] * workers.count > left
        if workers.count > 1 and left - work[at] >= LEAST and not last:
            break
        del order[0]
        left -= work[at]
        if last:
            progress.advance(0, f"a tree of {len(tasks[at].rows):,} models")
            if len(tasks[at].rows) >= _CROWDED:
                # Those that wait hold half a gigabyte each.
                workers.stop()
                _give_back()
        yield at, tasks[at].solve(workers.count)
    if not order:
        return
    batches = _batches(tasks, order, sum(len(tasks[at].rows) for at in order) // (8 * workers.count))
    workers.start()
    idle, busy = list(workers.started), dict[Connection, list[int]]()
    while True:
        try:
            for connection, batch in zip(idle, batches, strict=False):
                connection.send([tasks[at].alone() for at in batch])
                busy[connection] = batch
            if not busy:
                return
            idle = [each for each in wait(list(busy)) if isinstance(each, Connection)]
            answers = [connection.recv() for connection in idle]
        except (EOFError, OSError) as error:
            raise StopError(
                "a process that recovered trees was killed, perhaps for want of memory; run it again with --jobs 1"
            ) from error
        for connection, answer in zip(idle, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            yield from zip(busy.pop(connection), answer, strict=True)


def _give_back() -> None:
    """Memory that was let go of, to the system: glibc keeps what lies between what is still held."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


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
