"""Figures 2 and 7: how weight distance follows edge distance, and how small a graph can still be clustered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import shortest_path
from scipy.stats import rankdata

from benchmarks.accuracy.table_measurements import Measured
from benchmarks.accuracy.table_rows import GRAPH, Row
from indexer.paper import clusters_of

__all__ = ["cluster_sizes", "clustering", "clustering_accuracy", "correlation", "edge_distances", "profile"]

SIZES: Final = (10, 15, 20, 30, 40, 60, 80)
SAMPLES: Final = 20


def edge_distances(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """d(u, v) of section 3, n x n: edges on the way from one model to another of a tree."""
    child = np.flatnonzero(parent >= 0)
    graph = coo_matrix((np.ones(len(child)), (child, parent[child])), shape=(len(parent), len(parent)))
    return np.asarray(shortest_path(graph, directed=False, unweighted=True)).astype(np.int64)


def _pairs(measured: Measured, tree: str, distance: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edge distance and weight distance of all pairs of a tree."""
    rows = measured.rows(tree)
    place = {int(row): at for at, row in enumerate(rows)}
    parent = np.array([place.get(int(up), -1) for up in measured.truth.parent[rows]], np.int64)
    at = np.triu_indices(len(rows), 1)
    return edge_distances(parent)[at], measured.distance(distance, rows)[at]


def distances_of(measured: Measured) -> tuple[str, ...]:
    """What figure 2 shows of a split."""
    return ("l_lora", "l_ft") if measured.lora else ("l_ft",)


def correlation(measured: Measured) -> Iterator[Row]:
    """Figure 2: rho of weight distance and edge distance, mean over trees. The paper's 0.99 does not say of what: here
    it is taken over all pairs of a tree, and over the mean weight distance at each edge distance."""
    for distance in distances_of(measured):
        pairs = [_pairs(measured, tree, distance) for tree in measured.trees]
        pearson = [_rho(edges, weights) for edges, weights in pairs]
        spearman = [_rho(rankdata(edges), rankdata(weights)) for edges, weights in pairs]
        of_means = [_rho(*_means(edges, weights)) for edges, weights in pairs]
        paper = 0.99 if distance == ("l_lora" if measured.lora else "l_ft") else None
        for metric, values in (("Pearson", pearson), ("Spearman", spearman), ("Pearson of means", of_means)):
            yield Row(
                "figure 2", measured.split, GRAPH, measured.source, f"{distance}, {metric}", float(np.mean(values)),
                deviation=float(np.std(values)), of=len(values), paper=None if metric == "Spearman" else paper,
            )  # fmt: skip


def _rho(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Pearson's correlation; 0 where one is constant, as the rank of every difference can be from a sketch."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0


def _means(edges: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    steps = np.unique(edges)
    return steps, np.array([weights[edges == step].mean() for step in steps])


def profile(measured: Measured, distance: str) -> dict[int, tuple[float, float]]:
    """Edge distance -> mean and standard deviation of the weight distance, in units of a tree's mean over its edges."""
    found: dict[int, list[float]] = {}
    for tree in measured.trees:
        edges, weights = _pairs(measured, tree, distance)
        for step, weight in zip(edges.tolist(), (weights / weights[edges == 1].mean()).tolist(), strict=True):
            found.setdefault(step, []).append(weight)
    return {step: (float(np.mean(values)), float(np.std(values))) for step, values in sorted(found.items())}


def clustering_accuracy(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Share of models in the right cluster, under the best matching of clusters and trees."""
    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels, truth), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(labels))


def cluster_sizes(measured: Measured) -> tuple[int, ...]:
    n = len(measured.truth.tree)
    return (*(size for size in SIZES if 2 * len(measured.trees) <= size < n), n)


def clustering(measured: Measured, seed: int) -> Iterator[Row]:
    """Figure 7: SAMPLES random graphs of each size with models of every tree, clustered by L1 distance."""
    trees, truth = np.unique(np.array(measured.truth.tree), return_inverse=True)
    for size in cluster_sizes(measured):
        draw = np.random.default_rng([seed, size])
        found = []
        for _ in range(SAMPLES if size < len(truth) else 1):
            first = [int(draw.choice(np.flatnonzero(truth == tree))) for tree in range(len(trees))]
            rest = np.setdiff1d(np.arange(len(truth)), first)
            rows = np.sort(np.concatenate([first, draw.choice(rest, size - len(first), replace=False)]))
            labels = clusters_of(measured.absolute[np.ix_(rows, rows)], len(trees))
            found.append(clustering_accuracy(labels, truth[rows]))
        yield Row(
            "figure 7", measured.split, GRAPH, measured.source, f"clustered, {size} models", float(np.mean(found)),
            deviation=float(np.std(found)), of=len(found), paper=1.0 if size == len(truth) else None,
        )  # fmt: skip
