"""How many of the true nearest the lists of a large component hold, measured on a sample of its models."""

from __future__ import annotations

from heapq import nsmallest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.distance import squared_distances
from indexer.family import Family
from indexer.memo import Memo

__all__ = ["recall", "sampled"]

SAMPLED: Final = 16
"""Models of a component whose lists are compared with all distances: those whose content hashes come first."""
_KIND: Final = "true nearest"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def sampled(family: Family) -> Ints:
    """The rows that are asked."""
    contents = family.content_hashes
    return np.array(nsmallest(SAMPLED, range(len(family)), key=lambda row: contents[row]), np.int64)


def recall(family: Family, near: Ints, fresh: Ints, memo: Memo) -> float:
    """Share of the true nearest of some rows, by all their samples and all models, that their lists `near` hold.

    Where `memo` knows those among all but the `fresh`, only they are asked.
    """
    contents = family.content_hashes
    keys = list(map(bytes, family.content_keys))
    place = {key: row for row, key in enumerate(keys)}
    held = found = 0
    asked = sampled(family).tolist()
    memo.want(contents[row] for row in asked)
    for row in asked:
        known = memo.items(_KIND, contents[row], 8) if row not in fresh else {}
        others = np.array([place.get(key, -1) for key in known], np.int64)
        squared = np.array([np.frombuffer(told)[0] for told in known.values()])
        if known and (others >= 0).all():
            others, squared = _nearest(family, row, fresh, others, squared, near.shape[1])
        else:
            every = np.setdiff1d(np.arange(len(family)), [row])
            others, squared = _nearest(family, row, every, others[:0], squared[:0], near.shape[1])
        told = {keys[other]: value.tobytes() for other, value in zip(others.tolist(), squared, strict=True)}
        memo.keep_items(_KIND, contents[row], told)
        listed = near[row][near[row] >= 0]
        held, found = held + listed.size, found + len(np.intersect1d(others[: listed.size], listed))
    return found / held if held else 1.0


def _nearest(family: Family, row: int, new: Ints, others: Ints, squared: Floats, k: int) -> tuple[Ints, Floats]:
    """The k nearest of a row, nearest first, of `others` at these squared distances and of `new` ones."""
    others = np.append(others, new)
    squared = np.append(squared, squared_distances(family, np.full(new.size, row), new)[0])
    order = np.lexsort((others, squared))[:k]
    return others[order], squared[order]
