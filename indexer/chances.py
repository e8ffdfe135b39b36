"""Confidences and runners-up of a large component, from the costs of its candidate edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import TEMPERATURE, Ancestry
from indexer.roots import parents_first, subtree_sizes

__all__ = ["Chances", "told_by_chances"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chances:
    """Candidate parents of n models: edges from `tail` to `head` at `cost`."""

    tail: Ints
    head: Ints
    cost: Floats


def told_by_chances(edges: Chances, parent: Ints, root: int, roots: Ints, posterior: Floats) -> Ancestry:
    """The answer for n models from their parents (n, -1 for the root) and the posterior of each candidate root."""
    n = len(parent)
    confidence, runner_up, second = np.ones(n), np.full(n, -1), np.zeros(n)
    cost = {(int(u), int(v)): float(c) for u, v, c in zip(edges.tail, edges.head, edges.cost, strict=True)}
    entered, left = _intervals(parent)
    order = np.argsort(edges.head, kind="stable")
    starts = np.searchsorted(edges.head[order], np.arange(n + 1))
    for v in range(n):
        at = order[starts[v] : starts[v + 1]]
        if not at.size:
            continue
        tails, costs = edges.tail[at], edges.cost[at].copy()
        below = (entered[tails] >= entered[v]) & (entered[tails] < left[v])
        for i in np.flatnonzero(below):
            # A child as parent: the two change places.
            child = int(tails[i])
            swapped = cost.get((int(parent[v]), child), np.inf) if parent[child] == v else np.inf
            costs[i] = costs[i] + swapped - cost[v, child] if np.isfinite(swapped) else np.inf
        chance = np.exp((costs.min() - costs) / TEMPERATURE)
        chance /= chance.sum()
        chosen = int(np.flatnonzero(tails == parent[v])[0])
        confidence[v] = chance[chosen]
        chance[chosen] = -1.0
        other = int(np.argmax(chance))
        if chance[other] > 0:
            runner_up[v], second[v] = tails[other], chance[other]
    confidence *= 1.0 - _turned(parent, roots, posterior)
    confidence[root] = float(posterior[roots == root].sum())
    return Ancestry(parent, np.clip(confidence, 0.0, 1.0), runner_up, second)


def _turned(parent: Ints, roots: Ints, posterior: Floats) -> Floats:
    """n: the chance that the edge above each model points the other way, the root being at or below the model."""
    turned = np.zeros(len(parent))
    for row, chance in zip(roots.tolist(), posterior, strict=True):
        while parent[row] >= 0:
            turned[row] += chance
            row = int(parent[row])
    return turned


def _intervals(parent: Ints) -> tuple[Ints, Ints]:
    """Places (first, one past the last) of each node's subtree in a walk that visits parents before children."""
    n = len(parent)
    size = subtree_sizes(parent).astype(np.int64)
    first = np.zeros(n, np.int64)
    ahead = np.zeros(n, np.int64)
    for v in parents_first(parent):
        up = int(parent[v])
        if up >= 0:
            first[v] = first[up] + 1 + ahead[up]
            ahead[up] += size[v]
    return first, first + size
