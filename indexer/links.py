"""Which components a few models belong to, without reading the rest: who comes, and what holds together when one goes.

Being related is a property of two models (`indexer.components`), so a new model joins exactly the components that hold
a relative of it, and a component falls apart only where the last chain of relatives breaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.components import LIKELY, Related, likely, sure
from indexer.rough import ROUNDING
from indexer.shortlist import whole

__all__ = ["join", "pieces"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Places a, places b, likeness."""

_BLOCK = 1024
_MORE = 8
"""Times as many candidates of a component are asked when the likeliest were no relatives."""


def join(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    new: NDArray[np.int64],
    related: Related,
    sizes: Sequence[int] | None = None,
) -> NDArray[np.int64]:
    """n labels after the models at the places `new` joined the components that hold a relative of them.

    `vectors` is n x D (`indexer.shortlist.thinned`), `labels` n: equal for models of one component, and for each new
    model one of its own. Joined components have the least of their labels. With `sizes`, how many coordinates are of
    each tensor, pairs that are `indexer.components.sure` are not asked of.
    """
    labels = labels.copy()

    def told(a: NDArray[np.int64], b: NDArray[np.int64], likeness: NDArray[np.float64]) -> NDArray[np.bool_]:
        holds = np.zeros(a.size, bool)
        if sizes is not None:
            holds = sure(likeness, whole(vectors[a], sizes), whole(vectors[b], sizes))
        if not holds.all():
            holds[~holds] = related(a[~holds], b[~holds])
        return holds

    a, b, likeness = _likeliest(vectors, new)
    # Nearly all join the component of their likeliest relative, whose other members need not be looked at then.
    _merge(labels, a, b, told(a, b, likeness))
    a, b, likeness = _elsewhere(vectors, labels, new)
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


def _likeliest(vectors: NDArray[np.float32], new: NDArray[np.int64]) -> Pairs:
    """Pairs of a new model and the model that it is most like (FAISS, exact), of those that are like enough."""
    import faiss

    _, found = faiss.knn(vectors[new], vectors, 2, metric=faiss.METRIC_INNER_PRODUCT)
    # One of the two is another than itself; of a vector that is not finite there may be none.
    other = np.where(found[:, 0] == new, found[:, 1], found[:, 0])
    there = (other >= 0) & (other != new)
    return likely(vectors, new[there], other[there])


def _elsewhere(vectors: NDArray[np.float32], labels: NDArray[np.int64], new: NDArray[np.int64]) -> Pairs:
    """All pairs of a new model and one of another component that are like enough, and how like they are."""
    found = [np.empty((2, 0), np.int64)]
    for first in range(0, len(new), _BLOCK):
        block = new[first : first + _BLOCK]
        likeness = vectors[block] @ vectors.T
        at, to = np.nonzero((likeness >= LIKELY - ROUNDING) & (labels[block][:, None] != labels[None, :]))
        found.append(np.stack([block[at], to]))
    return likely(vectors, *np.concatenate(found, axis=1))


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
