"""Section 5.1: Model Graphs of three models, solved by the paper's protocol.

"We place edges between the nodes with the lowest weight distance and designate the node with the highest directional
weight score as the root." A pair that is farther apart than a threshold is of two trees. The protocol is not told which
of the four kinds it is given: a solution is right when its set of directed edges is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.table_measurements import Measured
from benchmarks.accuracy.table_recovery import own_distance
from benchmarks.accuracy.table_rows import GRAPH, Row

__all__ = ["KINDS", "protocol", "triplets"]

KINDS: Final = {
    "GPC": "grandparent, parent, child",
    "PC2": "parent and two children",
    "PCS": "parent, child, stranger",
    "S3": "three strangers",
}
SAMPLES: Final = 100
PER_TREE: Final = 8
STRANGERS: Final = 0.5
"""Threshold of equation 1, as a share of the range of a layer. The paper sets one and does not say which. Equation 2
needs none: strangers differ by full rank."""

Edges = frozenset[tuple[int, int]]


def protocol(distance: NDArray[np.float64], score: NDArray[np.float64], threshold: float) -> Edges:
    """(parent, child) edges among a few models: pairs below the threshold, shortest first, unless they close a circle;
    then away from the node with the highest score of each tree."""
    label = list(range(len(score)))
    near: dict[int, list[int]] = {node: [] for node in label}
    for a, b in sorted(combinations(range(len(score)), 2), key=lambda pair: float(distance[pair])):
        if distance[a, b] < threshold and label[a] != label[b]:
            near[a].append(b)
            near[b].append(a)
            label = [label[a] if each == label[b] else each for each in label]
    edges: set[tuple[int, int]] = set()
    for tree in set(label):
        seen = [max((node for node in range(len(score)) if label[node] == tree), key=lambda node: float(score[node]))]
        for node in seen:
            below = [each for each in near[node] if each not in seen]
            edges |= {(node, each) for each in below}
            seen += below
    return frozenset(edges)


def triplets(measured: Measured, seed: int) -> Iterator[Row]:
    """The share of SAMPLES random triplets of each kind that the protocol solves."""
    name = own_distance(measured)
    threshold = float(measured.full) if measured.lora else STRANGERS
    score = np.where(measured.truth.generalization, -1.0, 1.0) * measured.score
    for at, kind in enumerate(KINDS):
        possible = _triplets(measured, kind)
        draw = np.random.default_rng([seed, at])
        chosen = possible if len(possible) <= SAMPLES else [
            possible[i] for i in np.sort(draw.choice(len(possible), SAMPLES, replace=False))
        ]  # fmt: skip
        right = placed = 0
        for triplet in chosen:
            rows = np.array(triplet)
            truth = frozenset((a, b) for a, b in permutations(range(3), 2) if measured.truth.parent[rows[b]] == rows[a])
            found = protocol(measured.distance(name, rows), score[rows], threshold)
            right += found == truth
            placed += {frozenset(edge) for edge in found} == {frozenset(edge) for edge in truth}
        for metric, count in (("solved", right), ("edges placed", placed)) if chosen else ():
            yield Row(
                "triplets", measured.split, GRAPH, measured.source, f"{metric}, {kind}", count / len(chosen),
                of=len(chosen),
            )  # fmt: skip


def _triplets(measured: Measured, kind: str) -> Sequence[tuple[int, int, int]]:
    """All triplets of rows of one kind. Of three strangers only those among the first `PER_TREE` models of each tree,
    which are in no telling order: all would be hundreds of thousands."""
    parent = measured.truth.parent
    children = [np.flatnonzero(parent == row).tolist() for row in range(len(parent))]
    if kind == "GPC":
        return [(int(parent[p]), p, c) for p in range(len(parent)) if parent[p] >= 0 for c in children[p]]
    if kind == "PC2":
        return [(p, *pair) for p in range(len(parent)) for pair in combinations(children[p], 2)]
    if kind == "PCS":
        tree = np.array(measured.truth.tree)
        edges = [(int(parent[c]), c) for c in range(len(parent)) if parent[c] >= 0]
        return [(p, c, int(s)) for p, c in edges for s in np.flatnonzero(tree != tree[c])]
    trees = [measured.rows(tree).tolist() for tree in measured.trees]
    return [triple for three in combinations(trees, 3) for triple in product(*(part[:PER_TREE] for part in three))]
