"""Which relatives of a row had piles when it was last asked whether it is a masked merge.

Whether one has, as seen from a base, follows from the three models alone. So where few candidates are new, few are
asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.memo import Memo
from indexer.relatives import Relatives

__all__ = ["KIND", "PileMemory"]

KIND: Final = "piles"
_KEY: Final = 8
"""Bytes of a content key that tell apart some tens of models."""
_RECORD: Final = np.dtype([("key", f"V{_KEY}"), ("equal", "<u2"), ("piles", "u1")])

Ints = NDArray[np.int64]


class PileMemory:
    """What is known of the k candidates of a row from when they were j others; of nothing where there is no memo."""

    def __init__(self, memo: Memo | None, near: Relatives) -> None:
        self._memo, self._content = memo, near.family.content_hashes[near.row]
        keys = near.family.content_keys
        self._keys = np.ascontiguousarray(keys[near.candidates][:, :_KEY]).view(f"V{_KEY}")[:, 0]
        # In float32 units are those of the nearest, too.
        self._units = bytes(keys[near.nearest]) if near.precision == 0 and near.nearest >= 0 else bytes(16)
        held = b"" if memo is None else bytes(memo.held(KIND, self._content))
        if held[:16] != self._units or len(held) < 17:
            held = bytes(17)
        records = np.frombuffer(held, _RECORD, -1, 17)
        place = {bytes(key): at for at, key in enumerate(records["key"])}
        self._places = np.array([place.get(bytes(key), -1) for key in self._keys], np.int64)
        self._piles = np.append(records["piles"], 0)
        self.new: Ints = np.flatnonzero(self._places < 0)
        """The candidates of which nothing is known."""
        self.before: Ints = records["equal"].astype(np.int64)
        """j: at how many coordinates the row equals each of those it was asked with."""
        self.equal: Ints = np.append(self.before, 0)[self._places]
        """k: the same of its candidates, 0 of new ones."""
        self.failed: list[bool] = [bool(held[16] & (1 << rank)) for rank in range(8)]
        """Did no parts explain the row, as seen from the base of this rank?"""

    def rank(self, bases: Sequence[int], candidate: int) -> int:
        """Which of the bases, places among the j, a candidate was; -1 where it was none."""
        return next((rank for rank, base in enumerate(bases) if base == self._places[candidate]), -1)

    def piled(self, rank: int) -> tuple[Ints, bool]:
        """(the candidates that are known to have piles as seen from the base of this rank, whether these are all that
        had any)."""
        if rank < 0:
            return np.empty(0, np.int64), False
        had = (self._piles & (1 << rank)) > 0
        return np.flatnonzero(had[self._places]), int(had[self._places].sum()) == int(had.sum())

    def hold(self, equal: Ints, piled: NDArray[np.bool_], failed: Sequence[bool]) -> None:
        """Note what is known now: k, bases x k, and of each base."""
        records = np.zeros(len(equal), _RECORD)
        records["key"], records["equal"] = self._keys, equal
        for rank, row in enumerate(piled):
            records["piles"] |= row.astype(np.uint8) << rank
        bits = sum(1 << rank for rank, each in enumerate(failed) if each)
        if self._memo is not None:
            self._memo.hold(KIND, self._content, self._units + bytes([bits]) + records.tobytes())
