"""Which models belong to one Model Tree: connected components of the relation "correlated at all"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from indexer.alike import apart, are_one, compared
from indexer.bunches import bunched
from indexer.distance import RELATED, correlations, normalised
from indexer.family import Family
from indexer.rough import rough
from indexer.shortlist import layout_of, products, thinned, whole

__all__ = [
    "FIRM", "LIKELY", "SURE", "Related", "are_related", "connect", "find_components", "likely", "sure",
]  # fmt: skip

Related = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""(places a, places b, P each) -> P: are these relatives, by all their samples?"""

LIKELY: Final = RELATED - 0.06
"""Pairs of at least this correlation by their search vectors are looked at. Their error is 1/32: two that correlate at
.29, the least of published relatives, are passed over once in ten million, and of strangers three in a million are
looked at. From .1 on it would be seven in ten thousand, of which each model of a large architecture has hundreds."""

SURE: Final = 0.5
"""Pairs of at least this correlation there are relatives, with nothing else asked: ten times their error above RELATED.
"""

FIRM: Final = RELATED + 0.15
"""Two that correlate so much by all their samples are `likely` by their search vectors, whatever these err by."""

LEAST_SHARED: Final = 0.25
"""Share of what either of two models has, weighted by sqrt(elements), that both have at least."""

_BLOCK: Final = 2048
"""Models that are compared with as many at a time."""
_FEW: Final = 4
"""Blocks up to which it is not worth while to look for such as need not be compared."""
_PAIRS: Final = 100_000
"""Pairs that are looked at together, or those of two blocks where these are more."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def find_components(family: Family, rows: NDArray[np.float32] | None = None) -> Ints:
    """`connect` for a family; `rows` is `normalised(family)`, when the caller has it."""
    told = normalised(family) if rows is None else rows
    layout = layout_of(family)
    vectors = thinned(family, told, layout)
    return connect(vectors, lambda a, b: _relatives(family, told, a, b), list(layout.values()))


def connect(
    vectors: NDArray[np.float32],
    related: Related,
    sizes: Sequence[int] | None = None,
    rows: Ints | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Ints:
    """Component label of each of n models, numbered by the first member in their order.

    A component is what relatives of relatives reach. `vectors` are `indexer.shortlist.thinned`, of the n models or of
    more, among which they are `rows`; `related` is asked of pairs (of the n) that these call `likely`, and only of
    those that would join two components. With `sizes`, how many coordinates are of each tensor, pairs that are `sure`
    are not asked of. `done` is told how many models have been compared with all.
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    n = len(rows)
    # In what order they are compared decides who is asked of whom, but not who is of one component in the end.
    order = bunched(vectors, rows, SURE) if n > _FEW * _BLOCK else np.arange(n)
    rows = rows[order]
    complete = np.zeros(n, bool) if sizes is None else whole(vectors, sizes)[rows]
    labels = np.arange(n)
    found: list[Ints] = []

    def asked(a: Ints, b: Ints) -> NDArray[np.bool_]:
        return related(np.minimum(order[a], order[b]), np.maximum(order[a], order[b]))

    def blocks() -> Iterator[tuple[slice, slice]]:
        for some, others in _blocks(n):
            if others.stop == n or not are_one(labels, some.start, some.stop, others.start, others.stop):
                yield some, others

    with rough(vectors, rows, _BLOCK) as told:
        for some, others, runs in compared(told, blocks(), LIKELY):
            found.append(np.stack(apart(told, some, others, runs, labels, complete, LIKELY, SURE)).astype(np.int64))
            if sum(pairs.shape[1] for pairs in found) > _PAIRS or others.stop == n:
                # Mostly strangers, and few. Relatives that are not sure are joined before more of them are found.
                a, b = np.concatenate(found, axis=1)
                a, b, like = likely(vectors, a, b, rows)
                certain = sure(like, complete[a], complete[b])
                labels = _united(_flat(labels), a[certain], b[certain])
                labels = _join(labels, a[~certain], b[~certain], like[~certain], asked)
                found = []
            if others.stop == n:
                done(some.stop)
    places = np.empty(n, np.int64)
    places[order] = labels
    _, first_of, place = np.unique(places, return_index=True, return_inverse=True)
    numbers = np.empty(first_of.size, np.int64)
    numbers[np.argsort(first_of)] = np.arange(first_of.size)
    return np.asarray(numbers[place])


def _blocks(n: int) -> Iterator[tuple[slice, slice]]:
    """Some models and others, until each of n has been with each."""
    parts = [slice(first, min(first + _BLOCK, n)) for first in range(0, n, _BLOCK)]
    return ((some, others) for at, some in enumerate(parts) for others in parts[at:])


def likely(vectors: NDArray[np.float32], a: Ints, b: Ints, rows: Ints | None = None) -> tuple[Ints, Ints, Floats]:
    """(a, b, likeness) of those of P pairs (of `rows` of the vectors) that are like enough to be looked at."""
    likeness = products(vectors, *((a, b) if rows is None else (rows[a], rows[b])))
    kept = likeness >= LIKELY
    return a[kept], b[kept], likeness[kept]


def sure(likeness: Floats, complete_a: NDArray[np.bool_], complete_b: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """P: are two as like as no two are by chance, where both have every tensor?"""
    return np.asarray((likeness >= SURE) & complete_a & complete_b)


def _flat(labels: Ints) -> Ints:
    """Each label that which it leads to."""
    while not np.array_equal(labels, further := labels[labels]):
        labels = further
    return labels


def _united(labels: Ints, a: Ints, b: Ints) -> Ints:
    """n labels, the least of those that were joined, after P pairs joined their components."""
    if not a.size:
        return labels
    links = coo_matrix((np.ones(a.size, bool), (labels[a], labels[b])), shape=(len(labels),) * 2)
    _, joined = connected_components(links, directed=False)
    _, first = np.unique(joined, return_index=True)
    return np.asarray(first[joined][labels])


def _join(labels: Ints, a: Ints, b: Ints, likeness: Floats, related: Related) -> Ints:
    """`_united` by those of P pairs that are related.

    The likeliest pairs that together would join all are asked first: most of them are related, and most of the rest are
    within one component then. What is left are strangers, every one of which has to be asked.
    """
    for asked_first in (True, False):
        apart = labels[a] != labels[b]
        a, b, likeness = a[apart], b[apart], likeness[apart]
        if not a.size:
            break
        asked = _spanning(labels[a], labels[b], likeness, len(labels)) if asked_first else np.arange(a.size)
        found = asked[related(a[asked], b[asked])]
        labels = _united(labels, a[found], b[found])
        left = np.ones(a.size, bool)
        left[asked] = False
        a, b, likeness = a[left], b[left], likeness[left]
    return labels


def _spanning(a: Ints, b: Ints, likeness: Floats, n: int) -> Ints:
    """Which of P pairs of labels are a spanning forest of largest likeness, tree by tree."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((-likeness, high, low))
    keys = low[order] * n + high[order]
    best = order[np.append(True, keys[1:] != keys[:-1])]
    # No pair costs nothing, which would be no pair.
    costs = csr_matrix((3.0 - likeness[best], (low[best], high[best])), shape=(n, n))
    forest = minimum_spanning_tree(costs).tocoo()
    chosen = best[np.searchsorted(low[best] * n + high[best], np.sort(forest.row * np.int64(n) + forest.col))]
    _, tree = connected_components(forest, directed=False)
    return np.asarray(chosen[np.argsort(tree[low[chosen]], kind="stable")])


def are_related(family: Family, a: Ints, b: Ints, least: float = RELATED) -> NDArray[np.bool_]:
    """P: whether the models of each of P pairs of rows are relatives, by all their samples."""
    return _relatives(family, normalised(family), a, b, least)


def _relatives(
    family: Family, rows: NDArray[np.float32], a: Ints, b: Ints, least: float = RELATED
) -> NDArray[np.bool_]:
    weights = np.sqrt(family.elements)
    both = (family.present[a] & family.present[b]) @ weights
    either = (family.present[a] | family.present[b]) @ weights
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = correlations(rows, a, b) * weights.sum() / both
        return np.asarray(np.where(both > LEAST_SHARED * either, mean, 0.0) >= least)
