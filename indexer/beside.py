"""Distances in a large tree that lists do not hold, remembered, so that whoever comes is measured and nothing else is
read: how far what is in a model's list lies from its nearest and from the middle of the tree, and what edges say."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.answered import Answered, places_of
from indexer.family import Family
from indexer.memo import RECORD, Memo
from indexer.sparse import Sparse

__all__ = ["Listed", "from_middle", "from_nearest", "remember_pairs", "with_remembered"]

_KIND: Final = "beside the nearest"
_MIDDLE: Final = "from the middle"
_PAIRS: Final = f"{RECORD}pairs of edges"
_PAIR: Final = np.dtype([("ends", "<u8", (2, 2)), ("squared", "<f8")])
_RECORD: Final = np.dtype([("key", "<u8"), ("squared", "<f8")])
"""Eight bytes of a content key, which tell apart what is in one list; by rising key."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Listed:
    """What is at hand of some rows: b lists of E rows together."""

    def __init__(self, squared: Sparse, rows: Ints) -> None:
        starts, columns, values = squared.lists()
        sizes = np.diff(starts)[rows]
        self.rows = rows
        """b."""
        self.spans: Ints = np.cumsum([0, *sizes])
        """b + 1: where lists begin."""
        at = np.arange(self.spans[-1]) - np.repeat(self.spans[:-1] - starts[rows], sizes)
        self.columns, self.values = columns[at], values[at]
        """E rows that are listed, and their squared distances from whose list it is."""


def from_nearest(family: Family, squared: Sparse, listed: Listed, first: Ints, memo: Memo) -> Floats:
    """E squared distances of what is listed from the nearest of whose list it is; `first` are b, -1 for nobody."""
    memo.want(family.content_hashes[row] for row in listed.rows.tolist())
    keys = _words(family)[:, 0]
    found = np.full(len(listed.columns), np.nan)
    lists = [
        (family.content_hashes[row], bytes(family.content_keys[near]), slice(*span))
        for row, near, span in zip(listed.rows.tolist(), first.tolist(), pairwise(listed.spans.tolist()), strict=True)
        if near >= 0
    ]
    for content, key, inside in lists:
        held = memo.held(_KIND, content)
        if held[:16] == key and len(held) % _RECORD.itemsize == 0 < len(held) - 16:
            records = np.frombuffer(held, _RECORD, -1, 16)
            asked = keys[listed.columns[inside]]
            at = np.minimum(np.searchsorted(records["key"], asked), len(records) - 1)
            found[inside] = np.where(records["key"][at] == asked, records["squared"][at], np.nan)
    near = np.repeat(first, np.diff(listed.spans))
    new = np.flatnonzero(np.isnan(found) & (near >= 0))
    ends = near[new], listed.columns[new]
    found[new] = squared.with_pairs(*ends)[ends]
    for content, key, inside in lists:
        records = np.empty(inside.stop - inside.start, _RECORD)
        records["key"], records["squared"] = keys[listed.columns[inside]], found[inside]
        memo.hold(_KIND, content, key + records[np.argsort(records["key"])].tobytes())
    return found


def from_middle(family: Family, squared: Sparse, columns: Ints, middle: int, memo: Memo) -> Floats:
    """E squared distances of some rows from the row in the `middle`."""
    answered = Answered(family, memo)
    told = answered.digests(np.arange(len(family) + 1), np.arange(len(family)), bytes(family.content_keys[middle]))
    known, values = answered.known(_MIDDLE, told, np.dtype(np.float64))
    new = np.unique(columns[~known[columns]])
    ends = np.full(new.size, middle), new
    values[new] = squared.with_pairs(*ends)[ends]
    known[new] = True
    # Of whoever is in no list, as nothing is near it, nothing is kept.
    answered.keep(_MIDDLE, told, values, known & (np.diff(squared.lists()[0]) > 0))
    return np.asarray(values[columns])


def with_remembered(family: Family, squared: Sparse, memo: Memo) -> Sparse:
    """The same with what `remember_pairs` noted at hand: some edges are told at each update, and their ends would be
    read for it."""
    held = memo.held(_PAIRS, min(family.content_hashes))
    records = np.frombuffer(held[: len(held) - len(held) % _PAIR.itemsize], _PAIR)
    a, b = (places_of(_words(family), records["ends"][:, end]) for end in range(2))
    there = (a >= 0) & (b >= 0)
    return squared.with_values(a[there], b[there], records["squared"][there])


def remember_pairs(family: Family, squared: Sparse, memo: Memo) -> None:
    """Note the pairs that are at hand beside lists."""
    a, b, values = squared.beside()
    records = np.empty(len(values), _PAIR)
    records["ends"], records["squared"] = _words(family)[np.stack([a, b], axis=1)], values
    memo.hold(_PAIRS, min(family.content_hashes), records.tobytes())


def _words(family: Family) -> NDArray[np.uint64]:
    """n x 2: content keys."""
    return np.ascontiguousarray(family.content_keys).view(np.uint64).reshape(-1, 2)
