"""Which models belong to one Model Tree: connected components of the relation "correlated at all"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from indexer.distance import RELATED, correlations, normalised
from indexer.family import Family
from indexer.shortlist import nearest_relatives, thinned

__all__ = ["LIKELY", "NEIGHBOURS", "Related", "are_related", "connect", "find_components"]

Related = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""(places a, places b, P each) -> P: are these relatives, by all their samples?"""

NEIGHBOURS = 64
"""Candidate relatives a model in the first search."""

LIKELY = RELATED - 0.1
"""Pairs of at least this correlation in the thin search are looked at: its error is 1/32, a third of the margin."""

LEAST_SHARED = 0.25
"""Share of what either of two models has, weighted by sqrt(elements), that both have at least."""

_BLOCK = 1024


def find_components(family: Family, rows: NDArray[np.float32] | None = None) -> NDArray[np.int64]:
    """`connect` for a family; `rows` is `normalised(family)`, when the caller has it."""
    told = normalised(family) if rows is None else rows
    return connect(thinned(family, told), lambda a, b: _relatives(family, told, a, b))


def connect(vectors: NDArray[np.float32], related: Related) -> NDArray[np.int64]:
    """Component label of each of n models, numbered by the first member in their order.

    A component is what relatives of relatives reach. `vectors` is n x D (`indexer.shortlist.thinned`); `related` is
    asked of pairs that these call likely, and only of those that would join two components.
    """
    n = len(vectors)
    a, b, likeness, crowded = nearest_relatives(vectors, NEIGHBOURS, LIKELY)
    labels = _join(np.arange(n), a, b, likeness, related)
    # A crowd of more than NEIGHBOURS relatives can hide a more distant one from the lists of all its members.
    hidden = np.flatnonzero(crowded)
    for first in range(0, hidden.size, _BLOCK):
        block = hidden[first : first + _BLOCK]
        likeness = vectors[block] @ vectors.T
        at, to = np.nonzero((likeness >= LIKELY) & (labels[block][:, None] != labels[None, :]))
        labels = _join(labels, block[at], to, likeness[at, to], related)
    _, first_of, place = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(first_of.size, np.int64)
    order[np.argsort(first_of)] = np.arange(first_of.size)
    return np.asarray(order[place])


def _join(
    labels: NDArray[np.int64],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    likeness: NDArray[np.float32],
    related: Related,
) -> NDArray[np.int64]:
    """n labels, the least of those that were joined, after those of P pairs that are related joined their components.

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
        links = coo_matrix((np.ones(found.size, bool), (labels[a[found]], labels[b[found]])), shape=(len(labels),) * 2)
        _, joined = connected_components(links, directed=False)
        _, first = np.unique(joined, return_index=True)
        labels = first[joined][labels]
        left = np.ones(a.size, bool)
        left[asked] = False
        a, b, likeness = a[left], b[left], likeness[left]
    return labels


def _spanning(a: NDArray[np.int64], b: NDArray[np.int64], likeness: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Which of P pairs of labels are a spanning forest of largest likeness, tree by tree."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((-likeness, high, low))
    keys = low[order] * n + high[order]
    best = order[np.append(True, keys[1:] != keys[:-1])]
    # No pair costs nothing, which would be no pair.
    costs = csr_matrix((3.0 - likeness[best].astype(np.float64), (low[best], high[best])), shape=(n, n))
    forest = minimum_spanning_tree(costs).tocoo()
    chosen = best[np.searchsorted(low[best] * n + high[best], np.sort(forest.row * np.int64(n) + forest.col))]
    _, tree = connected_components(forest, directed=False)
    return np.asarray(chosen[np.argsort(tree[low[chosen]], kind="stable")])


def are_related(family: Family, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """P: whether the models of each of P pairs of rows are relatives, by all their samples."""
    return _relatives(family, normalised(family), a, b)


def _relatives(
    family: Family, rows: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.bool_]:
    weights = np.sqrt(family.elements)
    both = (family.present[a] & family.present[b]) @ weights
    either = (family.present[a] | family.present[b]) @ weights
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = correlations(rows, a, b) * weights.sum() / both
        return np.asarray(np.where(both > LEAST_SHARED * either, mean, 0.0) >= RELATED)
