"""How many of the true nearest the lists of a large component hold, measured on a sample of its models."""

from __future__ import annotations

from heapq import nsmallest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.distance import squared_distances
from indexer.family import Family
from indexer.kept_lists import Kept

__all__ = ["recall", "sampled"]

SAMPLED: Final = 16
"""Models of a component whose lists are compared with all distances: those whose content hashes come first."""
_KIND: Final = "true nearest"
_TOLD: Final = np.dtype([("key", "u1", 16), ("squared", "<f8")])

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def sampled(family: Family) -> Ints:
    """The rows that are asked."""
    contents = family.content_hashes
    return np.array(nsmallest(SAMPLED, range(len(family)), key=lambda row: contents[row]), np.int64)


def recall(family: Family, near: Ints, fresh: Ints, kept: Kept) -> float:
    """Share of the true nearest of some rows, by all their samples and all models, that their lists `near` hold.

    Where they are known among all whose lists were `kept`, only the `fresh` are asked.
    """
    keys = list(map(bytes, family.content_keys))
    # Who comes elsewhere now may stand on the other side of whoever is as far.
    there = np.setdiff1d(np.arange(len(keys)), fresh).tolist()
    place = {keys[row]: row for row in there}
    held = found = 0
    width = near.shape[1]
    before, now = kept.beside(_KIND, width * _TOLD.itemsize), {}
    for row in sampled(family).tolist():
        known = np.frombuffer(before.get(keys[row], b""), _TOLD) if row not in fresh else np.empty(0, _TOLD)
        known = known[: int(np.isfinite(known["squared"]).sum())]
        others, squared = np.array([place.get(key.tobytes(), -1) for key in known["key"]], np.int64), known["squared"]
        if known.size and (others >= 0).all():
            others, squared = _nearest(family, row, fresh, others, squared, near.shape[1])
        else:
            every = np.setdiff1d(np.arange(len(family)), [row])
            others, squared = _nearest(family, row, every, others[:0], squared[:0], near.shape[1])
        others, squared = others[np.isfinite(squared)], squared[np.isfinite(squared)]
        told = np.zeros(width, _TOLD)
        told["squared"] = np.inf
        told["key"][: len(others)], told["squared"][: len(others)] = family.content_keys[others], squared
        now[keys[row]] = told.tobytes()
        listed = near[row][near[row] >= 0]
        held, found = held + listed.size, found + len(np.intersect1d(others[: listed.size], listed))
    kept.write_beside(family, _KIND, now)
    return found / held if held else 1.0


def _nearest(family: Family, row: int, new: Ints, others: Ints, squared: Floats, k: int) -> tuple[Ints, Floats]:
    """The k nearest of a row, nearest first, of `others` at these squared distances and of `new` ones."""
    others = np.append(others, new)
    squared = np.append(squared, squared_distances(family, np.full(new.size, row), new)[0])
    order = np.lexsort((others, squared))[:k]
    return others[order], squared[order]
