"""Limits so low that small trees are solved as large ones: by neighbourhoods, read by row, with edges that stand."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

__all__ = ["lower_limits"]

_LIMITS: Final = {
    "indexer.solve.DENSE": 8,
    "indexer.large_measured.LISTED": 8,
    "indexer.large.PARENTS": 6,
    "indexer.vicinity.SPARE": 2,
    # The root is judged among few, so that not everyone who comes has a say in all confidences.
    "indexer.large.SAMPLE": 8,
    "indexer.large.ROOTS": 3,
    "indexer.large.POOL": 12,
    # Where there are processes, they are forked for a few models.
    "indexer.forks.LEAST": 3,
}


def _set(target: str, value: int) -> None:
    module, _, name = target.rpartition(".")
    setattr(import_module(module), name, value)


def lower_limits(put: Callable[[str, Any], None] = _set) -> None:
    """Put these limits, for good or by the `setattr` of a MonkeyPatch."""
    for target, value in _LIMITS.items():
        put(target, value)
