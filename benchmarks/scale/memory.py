"""Peak memory of this process, and of steps that each get a process of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

__all__ = ["in_own_process", "peak_mb", "resident_mb"]

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
    """What `step` returns, and the peak memory in MB of the fresh process that it ran in."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(step, *arguments, **named).result()
        return result, pool.submit(peak_mb).result()
