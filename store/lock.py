"""The lock of a graph: one process writes, and it dies with its process, whatever kills it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from store.errors import StopError

__all__ = ["LOCK", "is_held", "lock"]

LOCK: Final = "LOCK"
_PATIENCE: Final = 0.25
"""Seconds that a writer tries for: `is_held` has the lock for an instant, and no run may fail for that."""
_held: Final[set[int]] = set()
"""Handles of the locks that this process has."""


def _let_go() -> None:
    """In a process that was forked from this one: the lock is not its own, and would be held until both are gone."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the graph in `folder` for writing.

    Raises StopError when another process holds it, or when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StopError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        _held.add(handle)
        _take(folder, handle)
        # Of one length, so that it takes no space that a full disk has not got.
        os.pwrite(handle, f"{os.getpid():<31}\n".encode(), 0)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _take(folder: Path, handle: int) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.01)
                continue
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            raise StopError(
                f"{folder}: process {holder or '(unknown)'} is writing to this graph; wait until it is done. "
                "Readers are not affected"
            ) from None
        else:
            return


def is_held(folder: Path) -> bool:
    """Is a process writing to the graph right now?"""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
