"""Lists of nearest that are kept from one update to the next: who is not touched is not searched for again.

A model's list changes when one of it goes, or when one comes that is nearer than its last. So a list that was kept is
what a search among all would find, to the bit: the first search measures each pair in the same way whatever is asked
beside it (`indexer.finders.apart`), and takes the lower row of two that are equally far, which is the first by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.answered import places_of
from indexer.family import Family
from indexer.memo import RECORD, Memo

__all__ = ["FRESH", "GONE", "NOBODY", "Kept", "Records", "renumbered"]

NOBODY: Final = -1
"""In a list that holds fewer than it has room for."""
FRESH: Final = -2
"""All through the list of a row that was not kept."""
GONE: Final = -3
"""In a list, in place of a row that is there no more."""

_MEMBERS: Final = 16
"""Bytes over whose lists they are."""

Ints = NDArray[np.int64]
Records = NDArray[np.void]
"""n rows with fields `near` (rows of a list, -1 where there are fewer) and others that belong to them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the lists of a family's models are kept, with what they follow from beside the models themselves."""

    memo: Memo
    kind: str
    content: str
    """Of the model that they are kept with."""
    told: bytes
    """What they follow from: where it is another, nothing that was kept holds."""
    _seen: list[bytes] = field(default_factory=list)
    """What `members` says, once lists were read."""

    def read(self, family: Family, row: np.dtype[np.void]) -> Records | None:
        """The records of a family's models, as they were kept, in its numbers; None where nothing is of use."""
        held = self.memo.held(RECORD + self.kind, self.content)
        record = _with_key(row)
        at = len(self.told) + _MEMBERS
        if held[: len(self.told)] != self.told or len(held) <= at or (len(held) - at) % record.itemsize:
            return None
        records = np.frombuffer(held, record, -1, at)
        found = renumbered(records["key"], records["row"], family.content_keys)
        self._seen.append(self.members())
        self.memo.let_go(RECORD + self.kind, self.content)
        return found

    def members(self) -> bytes:
        """16 bytes over the models whose lists were kept; nothing where none were."""
        if self._seen:
            return self._seen[0]
        held = self.memo.held(RECORD + self.kind, self.content)
        if held[: len(self.told)] != self.told:
            return b""
        return bytes(held[len(self.told) : len(self.told) + _MEMBERS])

    def beside(self, kind: str, size: int) -> dict[bytes, bytes]:
        """What `write_beside` kept with the lists that there are: it is of the same models, or nothing."""
        held, at = self.memo.held(RECORD + kind, self.content), self.members()
        if not at or held[:_MEMBERS] != at or (len(held) - _MEMBERS) % (16 + size):
            return {}
        told = bytes(held[_MEMBERS:])
        return {told[at : at + 16]: told[at + 16 : at + 16 + size] for at in range(0, len(told), 16 + size)}

    def write_beside(self, family: Family, kind: str, items: Mapping[bytes, bytes]) -> None:
        """Keep what holds of some models (keys of 16 bytes) among all whose lists are kept, each as long."""
        told = b"".join(key + value for key, value in sorted(items.items()))
        self.memo.hold(RECORD + kind, self.content, _members(family), told)

    def write(self, family: Family, records: Records) -> None:
        """Keep them for the next update."""
        told = np.empty(len(records), _with_key(records.dtype))
        told["key"], told["row"] = family.content_keys, records
        self.memo.hold(RECORD + self.kind, self.content, self.told, _members(family), _bytes(told))

    def read_few(self, family: Family, row: np.dtype[np.void], rows: Ints) -> tuple[Records, Ints] | None:
        """(of some rows, as `read` gives them, what `write_few` kept, NOBODY where it kept nothing; rows of the family
        that are new)."""
        held = self.memo.held(RECORD + self.kind, self.content)
        record, at = _with_place(row), len(self.told) + 8
        if held[: len(self.told)] != self.told or len(held) < at:
            return None
        n = int.from_bytes(held[at - 8 : at], "little")
        if (len(held) - at - 16 * n) % record.itemsize or len(held) < at + 16 * n:
            return None
        few = np.frombuffer(held, record, -1, at + 16 * n) if len(held) > at + 16 * n else np.empty(0, record)
        now = _now(np.frombuffer(held, np.uint8, 16 * n, at).reshape(n, 16), family.content_keys)
        new = np.ones(len(family), bool)
        new[now[now >= 0]] = False
        held_by = np.full(len(family), -1)
        held_by[now[few["place"]][now[few["place"]] >= 0]] = np.flatnonzero(now[few["place"]] >= 0)
        there = held_by[rows] >= 0
        records = np.zeros(rows.size, row)
        records["near"] = np.where(new[rows], FRESH, NOBODY)[:, None]
        records[there] = few["row"][held_by[rows[there]]]
        records["near"][there] = _numbers(now)[records["near"][there]]
        return records, np.flatnonzero(new)

    def write_few(self, family: Family, records: Records, rows: Ints) -> None:
        """Keep the records of some rows, where most have no list."""
        told = np.empty(len(rows), _with_place(records.dtype))
        told["place"], told["row"] = rows, records
        keys = len(family).to_bytes(8, "little"), family.content_keys.tobytes()
        self.memo.hold(RECORD + self.kind, self.content, self.told, *keys, _bytes(told))


def _members(family: Family) -> bytes:
    return blake3(family.content_keys.tobytes()).digest(_MEMBERS)


def _bytes(told: NDArray[np.void]) -> memoryview:
    """The bytes of an array, which is contiguous, without a copy."""
    return told.view(np.uint8).data


def _with_key(row: np.dtype[Any]) -> np.dtype[np.void]:
    return np.dtype([("key", "u1", 16), ("row", row)])


def _with_place(row: np.dtype[Any]) -> np.dtype[np.void]:
    return np.dtype([("place", "<i4"), ("row", row)])


def renumbered(old: NDArray[np.uint8], kept: Records, keys: NDArray[np.uint8]) -> Records:
    """Records of the models of `keys` (n x 16) from those of `old` (m x 16); FRESH where they have nothing to say."""
    rows = _now(old, keys)
    there = np.flatnonzero(rows >= 0)
    result = np.empty(len(keys), kept.dtype)
    new = np.ones(len(keys), bool)
    new[rows[there]] = False
    result[new] = np.zeros(1, kept.dtype)
    result["near"][new] = FRESH
    # As bytes: fields of records are copied one by one.
    whole = np.dtype((np.void, kept.dtype.itemsize))
    result.view(whole)[rows[there]] = kept.view(whole)[there]
    near = _numbers(rows)[result["near"]]
    near[new] = FRESH
    result["near"] = near
    return result


def _now(old: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Ints:
    """m: which row of `keys` (n x 16) each of `old` (m x 16) is, GONE where it is none.

    Of two that are equally far the first is nearer. So models that come in another order now (a copy that is taken for
    the original, under its own name) are taken for gone, as few as can be.
    """
    before, now = (np.ascontiguousarray(each).view(np.uint64).reshape(-1, 2) for each in (old, keys))
    rows = places_of(now, before, GONE)
    there = np.flatnonzero(rows >= 0)
    if (np.diff(rows[there]) <= 0).any():
        moved = np.ones(there.size, bool)
        moved[_rising(rows[there].tolist())] = False
        rows[there[moved]] = GONE
    return rows


def _rising(values: list[int]) -> list[int]:
    """Places of a longest rising sequence among the values."""
    # The least value that a sequence of each length ends with, where it stands, and where the one before each stands.
    ends: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        length = bisect_left(ends, value)
        before.append(at[length - 1] if length else -1)
        ends[length : length + 1], at[length : length + 1] = [value], [place]
    found = []
    place = at[-1] if at else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]


def _numbers(rows: Ints) -> NDArray[np.int32]:
    """What stands in lists in place of old rows; what stands for nobody stays that."""
    return np.append(rows, -1).astype(np.int32)
