"""Which models belong to one Model Tree: connected components of the relation "correlated at all"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from indexer.distance import RELATED, correlations, normalised
from indexer.family import Family
from indexer.shortlist import nearest_relatives, thinned

__all__ = ["LIKELY", "NEIGHBOURS", "are_related", "find_components"]

NEIGHBOURS = 64
"""Candidate relatives a model in the first search."""

LIKELY = RELATED - 0.1
"""Pairs of at least this correlation in the thin search are looked at: its error is 1/32, a third of the margin."""

LEAST_SHARED = 0.25
"""Share of what either of two models has, weighted by sqrt(elements), that both have at least."""

_BLOCK = 1024


def find_components(family: Family, rows: NDArray[np.float32] | None = None) -> NDArray[np.int64]:
    """Component label of each model, length n, numbered by the first member in the family's order.

    Two models are related when their mean correlation is at least RELATED; a component is what relatives of relatives
    reach. `rows` is `normalised(family)`, when the caller has it.
    """
    rows = normalised(family) if rows is None else rows
    thin = thinned(family, rows)
    a, b, crowded = nearest_relatives(thin, NEIGHBOURS, LIKELY)
    links = [_related(family, rows, a, b)]
    labels = _connected(len(family), *links[0])
    # A crowd of more than NEIGHBOURS relatives can hide a more distant one from the lists of all its members.
    for label in np.unique(labels[crowded]):
        inside, outside = np.flatnonzero(crowded & (labels == label)), np.flatnonzero(labels != label)
        others = thin[outside]
        for first in range(0, inside.size if outside.size else 0, _BLOCK):
            block = inside[first : first + _BLOCK]
            at, to = np.nonzero(thin[block] @ others.T >= LIKELY)
            links.append(_related(family, rows, block[at], outside[to]))
    return _connected(len(family), *(np.concatenate(ends) for ends in zip(*links, strict=True)))


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


def _related(
    family: Family, rows: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    found = _relatives(family, rows, a, b)
    return a[found], b[found]


def _connected(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_matrix((np.ones(a.size, bool), (a, b)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    order = np.empty(first.size, np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return np.asarray(order[labels])
