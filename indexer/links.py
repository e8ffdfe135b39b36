"""Which components a few models belong to, without reading the rest: who comes, and what holds together when one goes.

Being related is a property of two models (`indexer.components`), so a new model joins exactly the components that hold
a relative of it, and a component falls apart only where the last chain of relatives breaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from indexer.components import LIKELY

__all__ = ["Related", "join", "pieces"]

Related = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""(places a, places b, P each) -> P: are these relatives, by all their samples?"""

_BLOCK = 1024


def join(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], new: NDArray[np.int64], related: Related
) -> NDArray[np.int64]:
    """n labels after the models at the places `new` joined the components that hold a relative of them.

    `vectors` is n x D (`indexer.shortlist.thinned`), `labels` n: equal for models of one component, and for each new
    model one of its own. Joined components have the least of their labels.
    """
    labels = labels.copy()
    tried: set[tuple[int, int]] = set()
    while True:
        asked = _best(vectors, labels, new, tried)
        if not asked:
            return labels
        a, b = np.array(asked, np.int64).T
        tried.update(asked)
        found = related(a, b)
        for u, v in zip(a[found], b[found], strict=True):
            low, high = sorted((int(labels[u]), int(labels[v])))
            labels[labels == high] = low


def _best(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], new: NDArray[np.int64], tried: set[tuple[int, int]]
) -> list[tuple[int, int]]:
    """For each new model and each component that is not its own, the likeliest relative there that was not tried."""
    n = len(vectors)
    done = np.array(sorted(min(pair) * n + max(pair) for pair in tried), np.int64)
    found: list[tuple[int, int]] = []
    for first in range(0, len(new), _BLOCK):
        block = new[first : first + _BLOCK]
        likeness = vectors[block] @ vectors.T
        at, to = np.nonzero((likeness >= LIKELY) & (labels[block][:, None] != labels[None, :]))
        u, like = block[at], likeness[at, to]
        left = ~np.isin(np.minimum(u, to) * n + np.maximum(u, to), done)
        u, to, like = u[left], to[left], like[left]
        order = np.lexsort((to, -like, labels[to], u))
        u, to = u[order], to[order]
        one_each = np.ones(len(u), bool)
        one_each[1:] = (u[1:] != u[:-1]) | (labels[to[1:]] != labels[to[:-1]])
        found += zip(u[one_each].tolist(), to[one_each].tolist(), strict=True)
    return found


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
