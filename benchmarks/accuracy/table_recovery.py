"""Accuracy of MoTHer Recovery: table 1, its ablation by distance, table 4, similar models, and what lambda does.

Accuracy is the share of true edges that are found, direction included. Which distance a split is measured with
(equation 1 or 2), the stage of every model and the number of clusters are given, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.table_measurements import Measured
from benchmarks.accuracy.table_rows import GRAPH, Row
from indexer.paper import C, clusters_of, recover_tree

__all__ = [
    "Shares",
    "constants",
    "direction",
    "grown",
    "own_distance",
    "recovered_graph",
    "same_recipe",
    "shares",
    "smaller_trees",
    "strewn",
    "table_1",
    "true_parents",
]

Ints = NDArray[np.int64]

PAPER_GRAPH: Final = {
    ("ft", "l_ft"): 0.89,
    ("lora-f", "l_lora"): 0.96,
    ("lora-v", "l_lora"): 1.0,
    ("lora-v", "l_ft"): 0.78,
}
PAPER_SMALLER: Final = {20: 0.87, 40: 0.90, 60: 0.88, 80: 0.89, 100: 0.89}
CONSTANTS: Final = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Shares:
    """Of some true edges: how many are found, how many either way round, and how many there are."""

    directed: int
    undirected: int
    edges: int


def shares(found: Ints, true: Ints) -> Shares:
    """Parents found against true ones, n each, -1 for a root."""
    child = np.flatnonzero(true >= 0)
    forward = found[child] == true[child]
    backward = found[true[child]] == child
    return Shares(int(forward.sum()), int((forward | backward).sum()), len(child))


def own_distance(measured: Measured) -> str:
    """What the paper uses for such a split."""
    return "l_lora" if measured.lora else "l_ft"


def recovered(measured: Measured, rows: Ints, distance: str, c: float = C) -> Ints:
    """Parents among some rows that are taken for one tree, as positions in `rows`, -1 for the root."""
    return recover_tree(measured.distance(distance, rows), measured.score[rows], measured.truth.generalization[rows], c)


def recovered_graph(measured: Measured, distance: str, c: float = C) -> tuple[Ints, Ints]:
    """(parent, cluster) of all n models: clusters by L1 distance, their number known, then tree by tree."""
    labels = clusters_of(measured.absolute, len(measured.trees))
    parent = np.full(len(labels), -1, np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        found = recovered(measured, rows, distance, c)
        parent[rows] = np.where(found >= 0, rows[found], -1)
    return parent, labels


def true_parents(measured: Measured, rows: Ints) -> Ints:
    """Nearest true ancestors among `rows`, as positions in `rows`; -1 where there is none."""
    place = {int(row): at for at, row in enumerate(rows)}
    result = np.full(len(rows), -1, np.int64)
    for at, row in enumerate(rows):
        up = int(measured.truth.parent[row])
        while up >= 0 and up not in place:
            up = int(measured.truth.parent[up])
        result[at] = place.get(up, -1)
    return result


def table_1(measured: Measured, distance: str | None = None, table: str = "table 1") -> Iterator[Row]:
    """Each tree alone, then the whole Model Graph: directed and undirected accuracy."""
    name = distance or own_distance(measured)

    def rows_of(tree: str, counts: Shares, paper: float | None) -> Iterator[Row]:
        for metric, right in (("directed", counts.directed), ("undirected", counts.undirected)):
            yield Row(
                table, measured.split, tree, measured.source, f"{metric} {name}", right / counts.edges,
                of=counts.edges, paper=paper if metric == "directed" else None,
            )  # fmt: skip

    for tree in measured.trees if len(measured.trees) > 1 else ():
        rows = measured.rows(tree)
        yield from rows_of(tree, shares(recovered(measured, rows, name), true_parents(measured, rows)), None)
    parent, _ = recovered_graph(measured, name)
    yield from rows_of(GRAPH, shares(parent, measured.truth.parent), PAPER_GRAPH.get((measured.split, name)))


def constants(measured: Measured) -> Iterator[Row]:
    """Accuracy of the Model Graph against the constant c of lambda = c mean(D): a small one leaves the topology to the
    distance and asks the score for the root alone."""
    for name in ("l_lora", "l_ft") if measured.lora else ("l_ft",):
        found = {c: shares(recovered_graph(measured, name, c)[0], measured.truth.parent) for c in CONSTANTS}
        for kind in ("directed", "undirected"):
            for c, counts in found.items():
                right = counts.directed if kind == "directed" else counts.undirected
                yield Row(
                    "lambda", measured.split, GRAPH, measured.source, f"{kind} {name}, c = {c:g}", right / counts.edges,
                    of=counts.edges,
                )  # fmt: skip


def direction(measured: Measured) -> Iterator[Row]:
    """Equation 3 on true edges, tree by tree: the share in which the score falls from parent to child, and the kurtosis
    of the root's layers, on average, which says whether there are tails to lose."""
    parent = measured.truth.parent
    tree = np.array(measured.truth.tree)
    of_a_layer = np.nanmean(measured.kurtosis[measured.layers], axis=0)
    for name in (*(measured.trees if len(measured.trees) > 1 else ()), GRAPH):
        inside = (tree == name) | (name == GRAPH)
        child, root = np.flatnonzero((parent >= 0) & inside), np.flatnonzero((parent < 0) & inside)
        where = ("direction", measured.split, name, measured.source)
        falls = float((measured.score[child] < measured.score[parent[child]]).mean())
        yield Row(*where, "score falls", falls, of=len(child))
        yield Row(*where, "kurtosis at the root", float(of_a_layer[root].mean()), of=len(root))


def smaller_trees(measured: Measured, seed: int) -> Iterator[Row]:
    """Table 4: sub-trees of 20 to 100 % of the models, SAMPLES of each tree, drawn in two ways.

    `connected`: grown from the root, so that every model's parent is there. `any models`: the root and any of the rest;
    a model's parent is then its nearest ancestor that was drawn. The paper does not say which way its own were drawn.
    """
    name = own_distance(measured)
    for way, draw_some in (("connected", grown), ("any models", strewn)):
        for percent, paper in PAPER_SMALLER.items():
            found = []
            for at, tree in enumerate(measured.trees):
                rows = measured.rows(tree)
                parent = true_parents(measured, rows)
                size = max(2, round(percent / 100 * len(rows)))
                draw = np.random.default_rng([seed, percent, at])
                for _ in range(SAMPLES if size < len(rows) else 1):
                    chosen = rows[draw_some(parent, size, draw)]
                    counts = shares(recovered(measured, chosen, name), true_parents(measured, chosen))
                    found.append(counts.directed / counts.edges)
            yield Row(
                "table 4", measured.split, GRAPH, measured.source, f"{way}, {percent} %",
                float(np.mean(found)), deviation=float(np.std(found)), of=len(found), paper=paper,
            )  # fmt: skip


def grown(parent: Ints, size: int, draw: np.random.Generator) -> Ints:
    """`size` nodes of a tree of n, sorted: the root, then one by one a node whose parent is in already."""
    chosen = np.flatnonzero(parent < 0).tolist()
    while len(chosen) < size:
        inside = np.isin(np.arange(len(parent)), chosen)
        chosen.append(int(draw.choice(np.flatnonzero(~inside & inside[parent]))))
    return np.sort(np.array(chosen, np.int64))


def strewn(parent: Ints, size: int, draw: np.random.Generator) -> Ints:
    """`size` nodes of a tree of n, sorted: the root and any of the rest."""
    root, rest = np.flatnonzero(parent < 0), np.flatnonzero(parent >= 0)
    return np.sort(np.concatenate([root, draw.choice(rest, size - len(root), replace=False)]))


def same_recipe(measured: Measured) -> Iterator[Row]:
    """Section 6.3, "Robustness to similar models": children of one recipe that differ in their seed."""
    name = own_distance(measured)
    farther = pairs = 0
    for tree in measured.trees:
        rows = measured.rows(tree)
        D = measured.distance(name, rows)
        parent = true_parents(measured, rows)
        for i in range(len(rows)):
            for j in range(i):
                if parent[i] == parent[j] >= 0:
                    pairs += 1
                    farther += int(D[i, j] > max(D[i, parent[i]], D[j, parent[j]]))
    common = ("similar models", measured.split)
    if pairs:
        yield Row(
            *common, GRAPH, measured.source, "siblings farther apart than from the parent", farther / pairs,
            of=pairs, paper=1.0,
        )  # fmt: skip
    right = edges = 0
    for tree in measured.trees:
        rows = measured.rows(tree)
        counts = shares(recovered(measured, rows, name), true_parents(measured, rows))
        right, edges = right + counts.directed, edges + counts.edges
    yield Row(*common, GRAPH, measured.source, f"directed {name}", right / edges, of=edges, paper=1.0)
