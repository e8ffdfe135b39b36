"""Which components a few models belong to, without reading the rest: who comes, and what holds together when one goes.

Being related is a property of two models (`indexer.components`), so a new model joins exactly the components that hold
a relative of it, and a component falls apart only where the last chain of relatives breaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.components import LIKELY, Related, likely, sure
from indexer.rough import ROUNDING
from indexer.shortlist import whole
from store.vectors import let_go

__all__ = ["join", "pieces"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Places a, places b, likeness."""

_HELD: Final = 1 << 27
"""Likenesses that are held at a time, half a gigabyte: those of hundreds of newcomers in a large architecture."""
_TOGETHER: Final = 1 << 16
"""Vectors of a file that are in memory at a time."""
_MORE: Final = 8
"""Times as many candidates of a component are asked when the likeliest were no relatives."""


def join(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    new: NDArray[np.int64],
    related: Related,
    sizes: Sequence[int] | None = None,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """n labels after the models at the places `new` joined the components that hold a relative of them.

    `vectors` is n x D (`indexer.shortlist.thinned`), `labels` n: equal for models of one component, and for each new
    model one of its own. Joined components have the least of their labels. With `sizes`, how many coordinates are of
    each tensor, pairs that are `indexer.components.sure` are not asked of. With `rows`, the n vectors are these of
    more.
    """
    labels = labels.copy()
    rows = np.arange(len(labels)) if rows is None else rows

    def told(a: NDArray[np.int64], b: NDArray[np.int64], likeness: NDArray[np.float64]) -> NDArray[np.bool_]:
        holds = np.zeros(a.size, bool)
        if sizes is not None:
            holds = sure(likeness, whole(vectors[rows[a]], sizes), whole(vectors[rows[b]], sizes))
        if not holds.all():
            holds[~holds] = related(a[~holds], b[~holds])
        return holds

    blocks = _Blocks(vectors, new, rows)
    a, b, likeness = _likeliest(blocks)
    # Nearly all join the component of their likeliest relative, whose other members need not be looked at then.
    _merge(labels, a, b, told(a, b, likeness))
    a, b, likeness = _elsewhere(labels, blocks)
    most = 1
    while a.size:
        order = np.lexsort((b, -likeness, labels[b], a))
        a, b, likeness = a[order], b[order], likeness[order]
        first = np.flatnonzero(np.append(True, (a[1:] != a[:-1]) | (labels[b[1:]] != labels[b[:-1]])))
        place = np.arange(a.size) - np.repeat(first, np.diff(np.append(first, a.size)))
        asked = place < most
        _merge(labels, a[asked], b[asked], told(a[asked], b[asked], likeness[asked]))
        left = ~asked & (labels[a] != labels[b])
        a, b, likeness = a[left], b[left], likeness[left]
        most *= _MORE
    return labels


def _merge(labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], holds: NDArray[np.bool_]) -> None:
    """Join in `labels` the components of those pairs that are related."""
    for u, v in zip(a[holds].tolist(), b[holds].tolist(), strict=True):
        low, high = sorted((int(labels[u]), int(labels[v])))
        if low != high:
            labels[labels == high] = low


class _Blocks:
    """Some of the new models at a time, and how like they are to all, m x n: made once if all of it can be held."""

    def __init__(self, vectors: NDArray[np.float32], new: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        self.vectors, self.rows = vectors, rows
        self.in_order = np.array_equal(rows, np.arange(len(vectors)))
        size = max(1, _HELD // max(1, len(vectors)))
        self.new = [new[first : first + size] for first in range(0, len(new), size)]
        self.held: NDArray[np.float32] | None = None

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for block in self.new:
            likeness = self._likeness(block) if self.held is None else self.held
            if len(self.new) == 1:
                self.held = likeness
            yield block, likeness

    def likely(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> Pairs:
        """(a, b, likeness) of those of P pairs that are like enough."""
        return likely(self.vectors, a, b, self.rows)

    def _likeness(self, block: NDArray[np.int64]) -> NDArray[np.float32]:
        asked = self.vectors[self.rows[block]]
        told = np.empty((len(block), len(self.vectors)), np.float32)
        for first in range(0, len(self.vectors), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            told[:, some] = asked @ self.vectors[some].T
            let_go(self.vectors)
        # To leave a few out afterwards is sooner done than to copy all others.
        return told if self.in_order else told[:, self.rows]


def _likeliest(blocks: _Blocks) -> Pairs:
    """Pairs of a new model and the model that it is most like, of those that are like enough. It only says what is
    asked first: what a product of matrices rounds makes no difference in the end."""
    if len(blocks.new) > 1:
        return blocks.likely(*_found(blocks.vectors, blocks.rows, np.concatenate(blocks.new)))
    found = [np.empty((2, 0), np.int64)]
    for block, likeness in blocks:
        other = _most(likeness, block)
        found.append(np.stack([block, other])[:, other >= 0])
    return blocks.likely(*np.concatenate(found, axis=1))


def _found(vectors: NDArray[np.float32], rows: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.int64]:
    """2 x P: new models, and the one that each is most like, by FAISS: of so many not all likenesses can be held, nor
    all vectors twice."""
    import faiss

    asked = vectors[rows[new]]
    most, near = np.full((len(new), 2), -np.inf, np.float32), np.full((len(new), 2), -1)
    for first in range(0, len(rows), _TOGETHER):
        some = np.ascontiguousarray(vectors[rows[first : first + _TOGETHER]])
        like, at = faiss.knn(asked, some, min(2, len(some)), metric=faiss.METRIC_INNER_PRODUCT)
        most, near = np.append(most, like, axis=1), np.append(near, np.where(at >= 0, at + first, -1), axis=1)
        best = np.argsort(-most, axis=1, kind="stable")[:, :2]
        most, near = np.take_along_axis(most, best, axis=1), np.take_along_axis(near, best, axis=1)
        let_go(vectors)
    other = np.where(near[:, 0] == new, near[:, 1], near[:, 0])
    return np.stack([new, other])[:, other >= 0]


@njit(cache=True, nogil=True)
def _most(likeness: NDArray[np.float32], new: NDArray[np.int64]) -> NDArray[np.int64]:
    """m: the place of the largest of each row but its own; -1 where none is a number."""
    most = np.full(len(new), -1, np.int64)
    for i in range(len(new)):
        largest = np.float32(-np.inf)
        for j in range(likeness.shape[1]):
            if likeness[i, j] > largest and j != new[i]:
                largest, most[i] = likeness[i, j], j
    return most


def _elsewhere(labels: NDArray[np.int64], blocks: _Blocks) -> Pairs:
    """All pairs of a new model and one of another component that are like enough, and how like they are."""
    found = [np.empty((2, 0), np.int64)]
    for block, likeness in blocks:
        for at, like in zip(block.tolist(), likeness, strict=True):
            to = np.flatnonzero(like >= LIKELY - ROUNDING)
            to = to[labels[to] != labels[at]]
            found.append(np.stack([np.full(to.size, at), to]))
    return blocks.likely(*np.concatenate(found, axis=1))


def pieces(members: Iterable[int], links: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The members in sets that chains of links connect, by their least member."""
    above = {member: member for member in members}

    def top(member: int) -> int:
        while above[member] != member:
            above[member] = above[above[member]]
            member = above[member]
        return member

    for a, b in links:
        if a in above and b in above:
            low, high = sorted((top(a), top(b)))
            above[high] = low
    found: dict[int, set[int]] = defaultdict(set)
    for member in above:
        found[top(member)].add(member)
    return [found[low] for low in sorted(found)]
