"""Which components are read and solved together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

__all__ = ["LONE", "batched", "by_row"]

LONE: Final = 2_048
"""Models of a component that is solved by itself, where not more than one in so many of them is new:"""
_MANY: Final = 4


def batched(
    parts: Iterable[list[int]], most: int, lone: Callable[[list[int]], bool] = lambda _: False
) -> Iterator[list[list[int]]]:
    """The parts, in batches of at most so many members; a larger part is one by itself, and so is a `lone` one."""
    batch: list[list[int]] = []
    held = 0
    for part in parts:
        if lone(part):
            yield [part]
            continue
        if batch and held + len(part) > most:
            yield batch
            batch, held = [], 0
        batch.append(part)
        held += len(part)
    if batch:
        yield batch


def by_row(part: list[int], new: Collection[int]) -> bool:
    """Does it gain a component to be solved by itself? Little of a large one is read where few of it are new."""
    return len(part) >= LONE and _MANY * sum(i in new for i in part) <= len(part)
