"""Which models belong to one Model Tree: connected components of the relation "correlated at all"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from indexer.distance import RELATED, correlations, normalised
from indexer.family import Family
from indexer.shortlist import nearest, thinned

__all__ = ["NEIGHBOURS", "find_components"]

NEIGHBOURS = 64
"""Candidate relatives a model in the first search."""

_MARGIN = 0.1
"""What the thin search may understate a correlation by: three times its noise of 1/32."""


def find_components(family: Family, rows: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """Component label of each model, length n, numbered by the first member in the family's order.

    Two models are related when their mean correlation is at least RELATED; a component is what relatives of relatives
    reach. `rows` is `normalised(family)`, when the caller has it.
    """
    rows = normalised(family) if rows is None else rows
    thin = thinned(family, rows)
    a, b = nearest(thin, NEIGHBOURS, inner_product=True)
    a, b = _related(family, rows, thin, a, b)
    labels = _connected(len(family), a, b)
    # A crowd of more than NEIGHBOURS near relatives can hide a more distant one from every list. The crowd's mean
    # correlates with it at least as well as a member does, so ask once for each crowd.
    extra_a, extra_b = [a], [b]
    for label in np.flatnonzero(np.bincount(labels) > NEIGHBOURS):
        inside = np.flatnonzero(labels == label)
        outside = np.flatnonzero(labels != label)
        if not outside.size:
            continue
        mean = thin[inside].mean(axis=0)
        near = outside[np.argsort(-(thin[outside] @ mean), kind="stable")[:NEIGHBOURS]]
        best = inside[np.argmax(thin[near] @ thin[inside].T, axis=1)]
        more = _related(family, rows, thin, best, near)
        extra_a.append(more[0])
        extra_b.append(more[1])
    return _connected(len(family), np.concatenate(extra_a), np.concatenate(extra_b))


def _related(
    family: Family, rows: NDArray[np.float64], thin: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    likely = np.einsum("pm,pm->p", thin[a], thin[b]) >= RELATED - _MARGIN
    a, b = a[likely], b[likely]
    weights = np.sqrt(family.elements)
    shared = (family.present[a] & family.present[b]) @ weights / weights.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        related = np.where(shared > 0.25, correlations(rows, a, b) / shared, 0.0) >= RELATED
    return a[related], b[related]


def _connected(n: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_matrix((np.ones(a.size, bool), (a, b)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    order = np.empty(first.size, np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return np.asarray(order[labels])
