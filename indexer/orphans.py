"""Edges to inferred ancestors: `indexer.missing` on the sketches of a component, and its answer in records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.cues import log_odds
from indexer.distance import measure_pairs, normalised
from indexer.family import Family
from indexer.missing import Completed, infer
from store.records import Edge, Evidence, Inferred

__all__ = ["adopt", "steady"]

RENEWED: Final = 0.3
"""A tensor was made anew where it changed by at least so much of its squared size (1 when nothing of it is left)"""
OUTSTANDING: Final = 8.0
"""and by so many times what the median tensor changed."""

SURE: Final = 0.97
"""No confidence is larger: of children of inferred nodes .98 belonged there, where ancestors were left out on the sets
that the constants come from (docs/accuracy.md)."""
WITHIN: Final = 2.0
"""Added to a node's log-odds: it was as good near 0, where less is missing it is not."""

Cues = Callable[[int, int], dict[str, float]]


def adopt(
    family: Family,
    squared: NDArray[np.float64],
    parent: NDArray[np.int64],
    edges: Sequence[Edge],
    cues: Cues,
    merges: Collection[int] = (),
    declared: NDArray[np.bool_] | None = None,
) -> tuple[list[Edge], tuple[Inferred, ...]]:
    """The edges of a component with those that inferred ancestors change, and these ancestors.

    `parent` (n; -1 for the root) and `edges` are the tree as found among the models alone, `squared` their n x n
    distances. What an edge was without inference stays its runner-up. Rows of `merges` and what was trained from them
    are no evidence: a merge lies between others because it was computed so. Where a card names the parent, `declared`
    (n), the edge stays, and so it does where `edges` hang a model on a copy of its parent.
    """
    trained = _trained(parent, merges)
    if trained.size < 3:
        return list(edges), ()
    if trained.size < len(family):
        place = np.full(len(family) + 1, -1)
        place[trained] = np.arange(trained.size)
        return adopt(
            family.take(trained),
            squared[np.ix_(trained, trained)],
            place[parent[trained]],
            edges,
            lambda u, v: cues(int(trained[u]), int(trained[v])),
            (),
            None if declared is None else declared[trained],
        )
    rest = steady(family, parent)
    if rest is not family:
        a, b = np.nonzero(np.triu(np.isfinite(squared), 1))
        found = measure_pairs(rest, normalised(rest), a, b).squared
        squared = np.full_like(squared, np.inf)
        squared[a, b] = squared[b, a] = found
        np.fill_diagonal(squared, 0.0)

    def direction(u: int, v: int) -> float:
        return sum(log_odds(name, value) for name, value in cues(u, v).items() if name != "kurtosis")

    above = {edge.child_id: edge.parent_id for edge in edges}
    ids = [*map(int, family.model_ids)]
    held = np.array([up >= 0 and above.get(ids[row], ids[up]) != ids[up] for row, up in enumerate(parent)], bool)
    tree = infer(squared, parent, rest.norms.sum(axis=1), direction, held if declared is None else held | declared)
    if not tree.shared.size:
        return list(edges), ()
    nodes = _nodes(family, tree)
    ids += [node.inferred_id for node in nodes]
    before = {edge.child_id: edge for edge in edges}
    values = float(rest.elements.sum())
    for row, up in enumerate(map(int, tree.parent)):
        if row < len(family) and up == parent[row]:
            continue
        old = before.pop(ids[row], None)
        if up >= 0:
            before[ids[row]] = _edge(family, tree, row, ids, old, values)
    return sorted(before.values(), key=lambda edge: edge.child_id), nodes


def _trained(parent: NDArray[np.int64], merges: Collection[int]) -> NDArray[np.int64]:
    """Rows that are no merge and do not descend from one."""
    computed = np.zeros(len(parent) + 1, bool)
    computed[list(merges)] = True
    while (more := computed[parent] & ~computed[:-1]).any():
        computed[:-1] |= more
    return np.flatnonzero(~computed[:-1])


def steady(family: Family, parent: NDArray[np.int64]) -> Family:
    """The family without the tensors that were made anew along one of its edges; itself when there are none.

    A head that is not recognised as one and starts again in each child is the same loss for all of them, just what
    children of a missing model have in common.
    """
    renewed = np.zeros(len(family.measured), bool)
    scale = family.elements / np.diff(family.starts)
    for child in np.flatnonzero(parent >= 0):
        pair = [int(parent[child]), int(child)]
        x, y = family.samples.at(int(family.precision[pair].max()), pair)
        change = np.add.reduceat((x - y) ** 2, family.starts[:-1]) * scale
        size = family.norms[pair].sum(axis=0)
        share = np.where(family.present[pair].all(axis=0) & (size > 0), change / np.where(size > 0, size, 1.0), 0.0)
        renewed |= (share >= RENEWED) & (share >= OUTSTANDING * np.median(share))
    if not renewed.any() or renewed.all():
        return family
    kept = tuple(tensor for tensor, out in zip(family.measured, renewed, strict=True) if not out)
    return replace(family, tensors=kept)


def _nodes(family: Family, tree: Completed) -> tuple[Inferred, ...]:
    """Inferred nodes with names and ids that follow from their children alone, whatever run finds them."""
    n = len(family)
    digests = dict(enumerate(family.content_hashes))
    found: dict[int, Inferred] = {}
    for row in _deepest_first(tree.parent, n):
        children = np.flatnonzero(tree.parent == row)
        digest = blake3("\n".join(sorted(digests[int(child)] for child in children)).encode()).digest()
        digests[row] = digest.hex()
        number = int.from_bytes(digest[:6], "big") + 1
        found[row] = Inferred(-number, f"inferred/{digest.hex()[:8]}", family.architecture, len(children))
    return tuple(found[row] for row in sorted(found))


def _deepest_first(parent: NDArray[np.int64], n: int) -> list[int]:
    """The inferred rows, each after the inferred rows below it."""

    def depth(row: int) -> int:
        steps = 0
        while (row := int(parent[row])) >= 0:
            steps += 1
        return steps

    return sorted(range(n, len(parent)), key=lambda row: (-depth(row), row))


def _edge(family: Family, tree: Completed, row: int, ids: list[int], before: Edge | None, values: float) -> Edge:
    """The edge of `row` to its parent where inference found that; `before` is what it was without."""
    n = len(family)
    up = int(tree.parent[row])
    # What was found to lie beyond a sibling hangs on it as surely as the node is there.
    node = max(row, up) if max(row, up) >= n else int(np.flatnonzero(_adjacent(tree.parent, up))[-1])
    odds = float(tree.log_odds[node - n]) + WITHIN
    chance = SURE * _probability(odds)
    if row in (node, tree.seen_from[node - n]):
        chance *= _probability(float(tree.heading[node - n]))
    distance = float(np.sqrt(tree.squared[up, row] / values))
    changed = f"weights changed by {distance:.3g} (root mean square)"
    if max(row, up) >= n:
        changed += ", as distances add up"
    siblings = np.flatnonzero(tree.parent == node)
    shared = float(tree.shared[node - n])
    says = (
        f"no model in the graph lies between these {len(siblings)} siblings: they share {shared:.2f} of their learning"
    )
    evidence = [Evidence("distance", distance, 0.0, changed), Evidence("shared_learning", shared, odds, says)]
    if row < n and up == node:
        others = siblings[siblings != row]
        alone = float(np.median(tree.squared[row, up] / tree.squared[row, others]))
        evidence.append(
            Evidence("alone", alone, 0.0, f"{alone:.2f} of the way to its siblings is its own (0 for their parent)")
        )
    evidence += [told for told in before.evidence if told.cue == "claim" and told.value < 0] if before else []
    return Edge(
        child_id=ids[row],
        parent_id=ids[up],
        relation=before.relation if before else "finetune",
        distance=distance,
        confidence=chance,
        runner_up_id=before.parent_id if before else None,
        runner_up_confidence=(1 - chance) * before.confidence if before else None,
        evidence=tuple(evidence),
    )


def _adjacent(parent: NDArray[np.int64], row: int) -> NDArray[np.bool_]:
    """Which nodes are the row's parent or children."""
    adjacent = np.asarray(parent == row)
    if parent[row] >= 0:
        adjacent[parent[row]] = True
    return adjacent


def _probability(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))
