"""What is asked of each of many models, asked by several processes at a time.

They are forked, so that they have what this one has and nothing is handed over but what they found. That is how Linux
does it; elsewhere one process asks all.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, Final, TypeVar

from store.errors import StopError

__all__ = ["end_with_parent", "gains", "in_fork", "in_turns"]

T = TypeVar("T")

LEAST: Final = 256
"""Models that a process is worth: to fork a large one takes as long as a few dozen."""

_forked: Final = threading.Event()


def in_fork() -> bool:
    """Is this a process that `in_turns` has forked? It has no connection to a database, and writes no file."""
    return _forked.is_set()


def gains(rows: int, processes: int) -> bool:
    """Does `in_turns` share out so many?"""
    return min(processes, rows // LEAST) > 1 and sys.platform == "linux" and not in_fork()


def in_turns(rows: Sequence[int], processes: int, ask: Callable[[list[int]], T]) -> list[tuple[list[int], T]]:
    """(some of the rows, what `ask` says of them) of up to so many parts, each but the first asked in a process of its
    own: what `ask` changes there is lost.

    Raises StopError when a process is killed, and whatever `ask` raises.
    """
    if not gains(len(rows), processes):
        return [(list(rows), ask(list(rows)))]
    count = min(processes, len(rows) // LEAST)
    parts = [list(rows[first::count]) for first in range(count)]
    # BLAS is told of a fork, and threads of the database wait for what is not asked of them there.
    context = multiprocessing.get_context("fork")
    started: list[tuple[Connection, ForkProcess]] = []
    try:
        for part in parts[1:]:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_answer, args=(theirs, ask, part), daemon=True)
            try:
                process.start()
            except OSError:
                # No more processes or memory to be had: the rest is asked here.
                ours.close()
                break
            finally:
                theirs.close()
            started.append((ours, process))
        there = range(1, len(started) + 1)
        told = {at: ask(part) for at, part in enumerate(parts) if at not in there}
        told |= {at: _heard(ours) for at, (ours, _) in zip(there, started, strict=True)}
        return [(part, told[at]) for at, part in enumerate(parts)]
    finally:
        for ours, process in started:
            ours.close()
            process.kill()
            process.join()


def _heard(ours: Connection) -> Any:
    try:
        answer, error = ours.recv()
    except (EOFError, OSError) as gone:
        raise StopError(
            "a process that recovered trees was killed, perhaps for want of memory; run it again with --jobs 1"
        ) from gone
    if error is not None:
        raise error
    return answer


def _answer(theirs: Connection, ask: Callable[[list[int]], T], part: list[int]) -> None:
    """In a new process."""
    # Ctrl-C is for the one that forked it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _forked.set()
    # To look at all objects is to copy them.
    gc.disable()
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        told: tuple[T | None, Exception | None] = ask(part), None
    except Exception as error:  # noqa: BLE001 - raised by the one that waits for it
        told = None, error
    theirs.send(told)


def end_with_parent() -> None:
    """Wait for the process that started this one, and end when it has."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
