"""Answers about all models of a large component, one record a kind of question: each holds while what it was told from
is the same, and nothing is asked model by model to find that out.

A question's inputs are models, in an order; their digest stands beside the answer (`indexer.memo` keeps one a model).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from blake3 import blake3
from numba import njit
from numpy.typing import NDArray

from indexer.family import Family
from indexer.memo import RECORD, Memo

__all__ = ["Answered", "along", "digests", "lists_of", "places_of"]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


class Answered:
    """What is known of a family's n models."""

    def __init__(self, family: Family, memo: Memo) -> None:
        self.memo = memo
        self._keys = np.ascontiguousarray(family.content_keys).view(np.uint64).reshape(-1, 2)
        self._content = min(family.content_hashes)
        """Of the model that records are kept with."""

    def digests(self, starts: Ints, rows: Ints, told: bytes = b"") -> Words:
        """n x 2: 128 bits over each model's inputs, the `rows` from its one of n + 1 `starts` to the next (-1 for
        nobody), and over what all are `told` besides."""
        return digests(self._keys, starts, rows, told)

    def known(self, kind: str, told: Words, row: Any) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """(n: whose answer is known from inputs of these digests, n answers of dtype `row`, zeros where it is not)."""
        n = len(self._keys)
        answers, there = np.zeros(n, row), np.zeros(n, bool)
        record = _record(row)
        held = self.memo.held(f"{RECORD}{kind} {record.itemsize}", self._content)
        if not held or len(held) % record.itemsize:
            return there, answers
        records = np.frombuffer(held, record)
        at = places_of(self._keys, records["key"])
        found = np.flatnonzero(at >= 0)
        found = found[(records["told"][found] == told[at[found]]).all(axis=1)]
        there[at[found]] = True
        answers[at[found]] = records["answer"][found]
        return there, answers

    def keep(self, kind: str, told: Words, answers: NDArray[Any], which: NDArray[np.bool_] | None = None) -> None:
        """Keep n answers from inputs of these digests, or `which` of them."""
        rows = np.arange(len(told)) if which is None else np.flatnonzero(which)
        records = np.empty(len(rows), _record(answers.dtype, answers.shape[1:]))
        records["key"], records["told"], records["answer"] = self._keys[rows], told[rows], answers[rows]
        self.memo.hold(f"{RECORD}{kind} {records.itemsize}", self._content, records.view(np.uint8).data)


def digests(keys: Words, starts: Ints, rows: Ints, told: bytes = b"") -> Words:
    """b x 2: 128 bits over each of b lists of rows of `keys` (n x 2), as in `Answered.digests`."""
    return np.asarray(_digests(keys, starts, rows, np.frombuffer(blake3(told).digest(16), np.uint64)))


def along(keys: Words, parent: Ints, order: Ints) -> Words:
    """n x 2: over the keys of each node and all above it; `parent` is -1 for roots, `order` has parents first."""
    return np.asarray(_along(keys, parent, order))


def lists_of(rows: Ints) -> tuple[Ints, Ints]:
    """(starts, rows) as `Answered.digests` takes them, of an n x k array."""
    return np.arange(len(rows) + 1) * rows.shape[1], np.ascontiguousarray(rows).reshape(-1)


def _record(row: Any, shape: tuple[int, ...] = ()) -> np.dtype[np.void]:
    answer = ("answer", row, shape) if shape else ("answer", row)
    return np.dtype([("key", "<u8", 2), ("told", "<u8", 2), answer])


def places_of(keys: Words, wanted: Words, nowhere: int = -1) -> Ints:
    """Row of `keys` (n x 2, distinct) of each of those wanted (m x 2), `nowhere` where it is none of them."""
    if not len(keys):
        return np.full(len(wanted), nowhere)
    order = np.argsort(keys[:, 0], kind="stable")
    at = order[np.minimum(np.searchsorted(keys[order, 0], wanted[:, 0]), len(keys) - 1)]
    return np.where((keys[at] == wanted).all(axis=1), at, nowhere)


@njit(cache=True, nogil=True)
def _mixed(x: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _digests(keys: Words, starts: Ints, rows: Ints, salt: Words) -> Words:
    out = np.empty((starts.size - 1, 2), np.uint64)
    for i in range(starts.size - 1):
        a, b = salt[0], salt[1]
        for at in range(starts[i], starts[i + 1]):
            row = rows[at]
            first, second = np.uint64(1), np.uint64(2)
            if row >= 0:
                first, second = keys[row, 0], keys[row, 1]
            # Two chains, each of which takes in both words, in another order.
            a = _mixed(_mixed(a + np.uint64(0x9E3779B97F4A7C15) ^ first) ^ second)
            b = _mixed(_mixed(b + np.uint64(0xD1B54A32D192ED03) ^ second) ^ first)
        out[i, 0], out[i, 1] = _mixed(a ^ np.uint64(starts[i + 1] - starts[i])), b
    return out


@njit(cache=True, nogil=True)
def _along(keys: Words, parent: Ints, order: Ints) -> Words:
    out = keys.copy()
    for v in order:
        up = parent[v]
        if up >= 0:
            out[v, 0] = _mixed(_mixed(out[up, 0] + np.uint64(0x9E3779B97F4A7C15) ^ keys[v, 0]) ^ keys[v, 1])
            out[v, 1] = _mixed(_mixed(out[up, 1] + np.uint64(0xD1B54A32D192ED03) ^ keys[v, 1]) ^ keys[v, 0])
    return out
