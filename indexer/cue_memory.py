"""Direction cues of pairs that were measured before: what one more model changes about a root is few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from indexer.cues import CUES
from indexer.family import Family
from indexer.memo import Memo

__all__ = ["CueMemory"]

_KIND: Final = "cues"
_NAMES: Final = tuple(CUES)

Cues = Callable[[int, int], dict[str, float]]


class CueMemory:
    """`cues` of pairs of rows of a family, remembered by the second row.

    Each way of a pair is kept for itself: the two are negatives of one another but for rounding.
    """

    def __init__(self, family: Family, cues: Cues, memo: Memo) -> None:
        self._family, self._cues, self._memo = family, cues, memo
        self._known: dict[int, dict[bytes, bytes]] = {}
        self._asked: dict[int, dict[bytes, bytes]] = {}

    def __call__(self, u: int, v: int) -> dict[str, float]:
        if v not in self._known:
            self._known[v] = self._memo.items(_KIND, self._family.content_hashes[v], 8 * len(_NAMES))
        key = bytes(self._family.content_keys[u])
        told = self._known[v].get(key)
        if told is None:
            measured = self._cues(u, v)
            told = np.array([measured[name] for name in _NAMES]).tobytes()
        self._asked.setdefault(v, {})[key] = told
        return dict(zip(_NAMES, np.frombuffer(told).tolist(), strict=True))

    def keep(self, rows: Iterable[int] = ()) -> None:
        """Note what was asked; if nothing was, what is known of these rows from the last time."""
        contents = self._family.content_hashes
        if not self._asked and not self._memo.lasting:
            for v in rows:
                known = self._memo.items(_KIND, contents[v], 8 * len(_NAMES))
                if known:
                    self._memo.keep_items(_KIND, contents[v], known)
        for v, told in self._asked.items():
            self._memo.keep_items(_KIND, contents[v], told)
