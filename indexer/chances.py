"""Confidences and runners-up of a large component, from the costs of its candidate edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
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
    order = np.argsort(edges.head, kind="stable")
    starts = np.searchsorted(edges.head[order], np.arange(len(parent) + 1))
    told = _chances(parent, starts, edges.tail[order], edges.cost[order], *_intervals(parent))
    confidence, runner_up, second = told
    confidence *= 1.0 - _turned(parent, roots, posterior)
    confidence[root] = float(posterior[roots == root].sum())
    return Ancestry(parent, np.clip(confidence, 0.0, 1.0), runner_up, second)


@njit(cache=True, nogil=True)
def _chances(
    parent: Ints, starts: Ints, tails: Ints, costs: Floats, entered: Ints, left: Ints
) -> tuple[Floats, Ints, Floats]:
    """n each: how likely the parent is among the candidates, the next likely one, and how likely that is. The edges to
    v are those from `starts[v]` to `starts[v + 1]`."""
    n = parent.size
    confidence, runner_up, second = np.ones(n), np.full(n, -1), np.zeros(n)
    for v in range(n):
        first, last = starts[v], starts[v + 1]
        if first == last:
            continue
        own = costs[first:last].copy()
        for i in range(own.size):
            tail = tails[first + i]
            if entered[v] <= entered[tail] < left[v]:
                # A child as parent: the two change places, where it could hang on the parent.
                swapped = np.inf
                if parent[tail] == v:
                    for at in range(starts[tail], starts[tail + 1]):
                        if tails[at] == parent[v]:
                            swapped = costs[at] - _of(tails, costs, starts, v, tail)
                own[i] += swapped
        chance = np.exp((own.min() - own) / TEMPERATURE)
        chance /= chance.sum()
        for i in range(own.size):
            if tails[first + i] == parent[v]:
                confidence[v] = chance[i]
                chance[i] = -1.0
        other = int(np.argmax(chance))
        if chance[other] > 0:
            runner_up[v], second[v] = tails[first + other], chance[other]
    return confidence, runner_up, second


@njit(nogil=True)
def _of(tails: Ints, costs: Floats, starts: Ints, tail: int, head: int) -> float:
    """Cost of the edge from tail to head, which there is."""
    for at in range(starts[head], starts[head + 1]):
        if tails[at] == tail:
            return float(costs[at])
    return np.inf


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
