"""Other methods, to compare with: pure functions from a family of n models to a parent array.

All are told the true number of clusters. `modelkin --mode paper` (indexer.paper) is the paper as printed; here are what
its authors' released code does, and two baselines that need no more than a distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from indexer.distance import measure_pairs, normalised
from indexer.family import Family, TensorColumn
from indexer.mdst import dense_minimum_directed_spanning_tree
from indexer.paper import directional_score

__all__ = ["Forest", "authors_code", "kurtosis_root", "l_ft", "l_lora", "mst_upload_order"]

LAMBDA: Final = 0.3


@dataclass(frozen=True, slots=True)
class Forest:
    """`parent`: n, -1 for roots; `labels`: n, the cluster of each model."""

    parent: NDArray[np.int64]
    labels: NDArray[np.int64]


def mst_upload_order(family: Family, clusters: int, order: NDArray[np.float64]) -> Forest:
    """The spanning tree on L2, each tree hung from its earliest upload: what a user with dates would try first."""
    return _hung_spanning_tree(family, clusters, -order)


def kurtosis_root(family: Family, clusters: int) -> Forest:
    """The spanning tree on L2, each tree hung from the model of the largest sum of kurtosis (equation 3)."""
    return _hung_spanning_tree(family, clusters, directional_score(family))


def _hung_spanning_tree(family: Family, clusters: int, rootness: NDArray[np.float64]) -> Forest:
    """The minimum spanning tree without its clusters - 1 longest edges (which is single linkage), each part hung from
    its model of the largest `rootness`, the first by name among equals."""
    n = len(family)
    a, b = np.triu_indices(n, 1)
    distance = np.zeros((n, n))
    if n > 1:
        distance[a, b] = distance[b, a] = measure_pairs(family, normalised(family), a, b).squared
    edges = sorted(_spanning_tree(distance), key=lambda edge: distance[edge])
    near: list[list[int]] = [[] for _ in range(n)]
    for u, v in edges[: max(n - clusters, 0)]:
        near[u].append(v)
        near[v].append(u)
    parent, labels = np.full(n, -1), np.full(n, -1)
    for label, root in enumerate(int(r) for r in np.argsort(-rootness, kind="stable")):
        if labels[root] >= 0:
            continue
        labels[root] = label
        ahead = [root]
        while ahead:
            u = ahead.pop()
            for v in near[u]:
                if labels[v] < 0:
                    parent[v], labels[v] = u, label
                    ahead.append(v)
    return Forest(parent, labels)


def _spanning_tree(distance: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Prim 1957, O(n^2). (scipy's takes a distance of 0 for no edge, and copies are at 0.)"""
    n = len(distance)
    nearest, reach = np.zeros(n, np.int64), distance[0].copy() if n else np.zeros(0)
    waiting = np.arange(n) > 0
    edges = []
    for _ in range(n - 1):
        v = int(np.argmin(np.where(waiting, reach, np.inf)))
        if not waiting[v]:  # what is left is at an infinite distance
            v = int(np.flatnonzero(waiting)[0])
        waiting[v] = False
        edges.append((int(nearest[v]), v))
        closer = waiting & (distance[v] < reach)
        nearest[closer], reach[closer] = v, distance[v][closer]
    return edges


def authors_code(family: Family, clusters: int, lora: bool | None = None) -> Forest:
    """What the released code of MoTHer does where it departs from the paper (github.com/eliahuhorwitz/MoTHer, 2024):

    Ward linkage on mean |difference|; a signed, normalised maximum of differences, or a sum of ranks; lambda from a
    mean that has the zero diagonal in it. Its kurtosis subtracts 3 a layer, which leaves every comparison as it was.
    From sketches: maxima run over the sampled weights, ranks over the projected layers. `lora` says which distance to
    use, as the code is told; None: what the ranks look like, tree by tree.
    """
    n = len(family)
    labels, parent = _ward(family, clusters), np.full(n, -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if rows.size < 2:
            continue
        tree = family.take(rows)
        ranks = None if lora is False else l_lora(tree)
        if lora is None and ranks is not None and not _low(tree, ranks):
            ranks = None
        distance = l_ft(tree) if ranks is None else ranks
        score = _excess_kurtosis(_square(tree) if ranks is None else _projected(tree))
        cost = distance + LAMBDA * distance.mean() * (score[:, None] < score[None, :])
        np.fill_diagonal(cost, np.inf)
        found = dense_minimum_directed_spanning_tree(cost)
        parent[rows] = np.where(found >= 0, rows[found], -1)
    return Forest(parent, labels)


def _ward(family: Family, clusters: int) -> NDArray[np.int64]:
    if len(family) <= 1 or clusters <= 1:
        return np.zeros(len(family), np.int64)
    # Each layer's mean counts once, whatever its size.
    scale = np.repeat(1.0 / np.diff(family.starts), np.diff(family.starts))
    near = pdist(family.samples[:] * scale, "cityblock")
    return np.asarray(fcluster(linkage(near, "ward"), clusters, "maxclust") - 1)


def _square(family: Family) -> tuple[TensorColumn, ...]:
    """The square matrices, which are all that the code looks at; where a family has none, all that is measured."""
    square = tuple(t for t in family.measured if len(t.shape) == 2 and t.shape[0] == t.shape[1])
    return square or family.measured


def _projected(family: Family) -> tuple[TensorColumn, ...]:
    return tuple(t for t in family.tensors if t.name in family.projections)


def _excess_kurtosis(layers: tuple[TensorColumn, ...]) -> NDArray[np.float64]:
    """Length n: the sum over layers of kurtosis - 3."""
    return np.asarray(sum(np.nan_to_num(t.kurtosis - 3.0) for t in layers))


def l_ft(family: Family) -> NDArray[np.float64]:
    """n x n: max over layers of max((u - v - low) / (high - low)), u before v by name, and low and high the least and
    largest of the layer's differences over all such pairs. The sign is kept: (v, u) would give another number, and is
    given that of (u, v)."""
    n = len(family)
    distance = np.zeros((n, n))
    for tensor in _square(family):
        x = tensor.samples[:]
        top = np.full((n, n), -np.inf)
        low = np.inf
        for i in range(n - 1):
            difference = x[i] - x[i + 1 :]
            top[i, i + 1 :] = difference.max(axis=1)
            low = min(low, float(difference.min()))
        high = float(top.max())
        if high > low:
            distance = np.maximum(distance, np.triu((top - low) / (high - low), 1))
    return np.asarray(distance + distance.T)


def l_lora(family: Family) -> NDArray[np.float64] | None:
    """n x n: the sum over projected layers of the rank of u - v at NumPy's default tolerance; None when no layer is
    projected."""
    n = len(family)
    distance = np.zeros((n, n))
    for tensor in _projected(family):
        values = family.projections[tensor.name]
        k = int(np.sqrt(values.shape[1]))
        for i in range(n - 1):
            difference = (values[i].astype(np.float64) - values[i + 1 :]).reshape(-1, k, k)
            difference[~np.isfinite(difference).all(axis=(1, 2))] = 0.0
            sizes = np.linalg.svd(difference, compute_uv=False)
            default = sizes.max(axis=1, initial=0.0) * max(tensor.shape) * np.finfo(np.float32).eps
            # The projection is float32 itself, which has nothing to do with the code: below that nothing is seen.
            stored = np.nanmax(np.abs(values[i]), initial=0.0) * np.sqrt(k) * 1e-6
            distance[i, i + 1 :] += (sizes > np.maximum(default, stored)[:, None]).sum(axis=1)
    return distance + distance.T if family.projections else None


def _low(family: Family, ranks: NDArray[np.float64]) -> bool:
    """Whether every model differs from its nearest by half of what the projections can show, or less."""
    full = sum(int(np.sqrt(values.shape[1])) for values in family.projections.values())
    return bool((np.where(ranks > 0, ranks, np.inf).min(axis=1) <= full / 2).all())
