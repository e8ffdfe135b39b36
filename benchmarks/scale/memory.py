"""Peak memory of this process, and of steps that each get a process of their own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

__all__ = ["in_own_process", "peak_mb", "resident_mb"]

_EVERY_S = 0.2
P = ParamSpec("P")
T = TypeVar("T")


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def peak_mb() -> float:
    """Largest resident size of this process so far, in MB (2**20 bytes). Linux only.

    Not getrusage: what that reports outlives exec, so a child would start at its parent's peak.
    """
    return _status_mb("VmHWM")


def resident_mb() -> float:
    """Resident size of this process now, in MB."""
    return _status_mb("VmRSS")


def in_own_process(step: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> tuple[T, float]:
    """What `step` returns, and the peak memory in MB of the fresh process that it ran in, with what that started."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with _Watched(pool.submit(os.getpid).result()) as watched:
            result = pool.submit(step, *arguments, **named).result()
        return result, max(watched.peak, pool.submit(peak_mb).result())


class _Watched:
    """Looks at a process and its descendants a few times a second: what they hold at once is no one process's peak."""

    def __init__(self, pid: int) -> None:
        self.peak = 0.0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        wait = _EVERY_S
        while not self._done.wait(wait):
            begun = time.perf_counter()
            self.peak = max(self.peak, sum(_share_mb(pid) for pid in _family_of(self._pid)))
            # Gigabytes take long to look through, and who is looked at waits.
            wait = max(_EVERY_S, 20 * (time.perf_counter() - begun))


def _family_of(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        try:
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except OSError:
            continue
    return found


def _share_mb(pid: int) -> float:
    """What a process holds, of what it shares with others (with those that were forked, nearly all) its part."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0
