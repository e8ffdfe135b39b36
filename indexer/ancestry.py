"""Who descends from whom within one component: the root as one decision, parents by a minimum directed spanning tree.

Given a root r, the cost of u as parent of v is

    M_r(u -> v) = |u - v|^2 + PRIVATE * max(0, |u - r|^2 - <u - r, v - r>)

The first term is the tree metric. The second is PRIVATE times the squared length of what u has and v has not, the
pendant of u in the tree metric: an ancestor has none. Siblings trained on similar data drift together until they are
nearer to each other than to their parent; a plain spanning tree then chains them, and this term does not.

The tree minimises the sum of SHARPNESS * log M_r(u -> v), a tempered likelihood of Gaussian increments whose scale is
each edge's own, and of CUES * log(1 + exp(-odds)) of the direction cues of u -> v.

Each root is scored by all evidence together: the cost of its tree, kurtosis under either training stage, and how many
orders of arrival its shape allows. The posterior over roots gives confidences. All constants were fitted on trained
families and scored on families left out of the fit (docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.cues import CUES, log_odds
from indexer.mdst import minimum_directed_spanning_forest

__all__ = ["Ancestry", "ancestor_costs", "recover"]

PRIVATE: Final = 1.6
SHARPNESS: Final = 13.0
CUE: Final = 0.5
ROOT: Final = 1.5
"""Weight of a tree's cost in the score of its root."""
ARRIVALS: Final = 0.55
"""Weight of the log number of arrival orders of a tree with this root (Shah and Zaman's rumour centrality)."""
SPECIALIZATION: Final = 0.65
"""Prior probability that a tree's edges are specialization: most published children are fine-tuned."""
STRAY: Final = 0.1
"""Share of edges on which kurtosis moves at random: small steps, few layers, mixed stages."""
TEMPERATURE: Final = 1.0
"""Log-odds are divided by it before they become probabilities: neither cues nor coordinates are independent."""

_CANDIDATES: Final = 32
"""Parents considered a model, nearest first, besides the root."""
_CUED: Final = 12
"""Of these, how many have their direction cues measured in a component of more than _CANDIDATES models."""
_ROOTS: Final = 48
"""Roots considered in a larger component."""
_LIKELY: Final = 8
"""Roots, most probable first, that confidences are mixed from."""

Cues = Callable[[int, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The answer for a component of n models, in rows of the component."""

    parent: NDArray[np.int64]
    """n; -1 for the root."""
    confidence: NDArray[np.float64]
    """n; posterior probability of `parent` (of being the root, for the root)."""
    runner_up: NDArray[np.int64]
    """n; the next most probable parent, -1 when none is."""
    runner_up_confidence: NDArray[np.float64]


def ancestor_costs(squared: NDArray[np.float64], root: int) -> NDArray[np.float64]:
    """M_r of the module's docstring: n x n from the n x n squared distances; entry [u, v] is u -> v."""
    with np.errstate(invalid="ignore"):
        private = 0.5 * (squared[:, [root]] + squared - squared[[root], :])
    # Infinite is what was not measured: two that both lack a distance to the root cannot be judged by it.
    costs = squared + PRIVATE * np.where(private > 0.0, private, 0.0)
    costs[root] = squared[root]
    np.fill_diagonal(costs, np.inf)
    return np.asarray(costs)


def recover(squared: NDArray[np.float64], cues: Cues, prior: NDArray[np.float64] | None = None) -> Ancestry:
    """Parents, confidences and runners-up of one component.

    `squared` is n x n, symmetric, zero on the diagonal. `cues(u, v)` measures the direction cues of u -> v. `prior` is
    (n + 1) x n: what evidence from elsewhere adds to the cost of u -> v, as a negative log-likelihood (infinite where
    it forbids the edge); its last row is the cost of v as the root.
    Ties go to the lower row: pass rows in a fixed order (by name).
    """
    n = len(squared)
    if n == 1:
        return Ancestry(np.full(1, -1), np.ones(1), np.full(1, -1), np.zeros(1))
    prior = np.zeros((n + 1, n)) if prior is None else prior
    # Equal backbones are at distance 0; a floor keeps costs, their logarithms and ratios finite.
    positive = squared[squared > 0]
    floor = 1e-6 * float(positive.min()) if positive.size else 1.0
    distances = squared + floor * (1 - np.eye(n))
    neighbours = _neighbours(distances)
    measured: dict[tuple[int, int], dict[str, float]] = {}

    def cached(u: int, v: int) -> dict[str, float]:
        if (u, v) not in measured:
            found = cues(u, v)
            measured[u, v] = found
            measured[v, u] = {name: -value for name, value in found.items()}
        return measured[u, v]

    against = np.full((n, n), np.log(2.0))
    for v in range(n):
        for u in neighbours[v] if n <= _CANDIDATES else neighbours[v][:_CUED]:
            against[u, v] = np.logaddexp(0.0, -_direction(cached(int(u), v)))
            against[v, u] = np.logaddexp(0.0, -_direction(cached(v, int(u))))
    roots = _candidate_roots(distances, neighbours, against)
    roots = roots[np.isfinite(prior[n, roots])]
    parents, scores = [], []
    for root in roots:
        # One root's costs at a time: n x n for each of 48 roots would be gigabytes.
        costs = _costs(distances, against, prior, int(root))
        parents.append(_tree(costs, neighbours, int(root)))
        scores.append(_score(costs, parents[-1], cached) - float(prior[n, root]))
    weight = np.exp((np.array(scores) - max(scores)) / TEMPERATURE)
    posterior = weight / weight.sum()
    best = int(np.argmax(scores))
    mixed = np.zeros((n, n + 1))
    likely = np.argsort(-posterior, kind="stable")[:_LIKELY]
    for at in likely:
        root = int(roots[at])
        costs = _costs(distances, against, prior, root)
        mixed[:, :n] += posterior[at] * _parent_chances(costs, neighbours, parents[at], root)
        mixed[root, n] += posterior[at]
    return _ancestry(parents[best], np.clip(mixed / posterior[likely].sum(), 0.0, 1.0))


def _neighbours(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """n x k: the nearest others of each row, nearest first, ties by lower row."""
    apart = distances.copy()
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, : min(_CANDIDATES, len(apart) - 1)]


def _candidate_roots(
    distances: NDArray[np.float64], neighbours: NDArray[np.int64], against: NDArray[np.float64]
) -> NDArray[np.int64]:
    """All rows of a small component; of a large one the most central, and those that the cues call old.

    Only rows whose distances to all others were measured can be roots.
    """
    n = len(distances)
    whole = np.flatnonzero(np.isfinite(distances).all(axis=1))
    if n <= _ROOTS:
        return whole
    central = whole[np.argsort(np.sqrt(distances[whole]).mean(axis=1), kind="stable")][: _ROOTS // 2]
    near = neighbours[whole, :4]
    age = (against[near, whole[:, None]] - against[whole[:, None], near]).sum(axis=1)
    old = [v for v in whole[np.argsort(-age, kind="stable")] if v not in set(central.tolist())]
    return np.sort(np.concatenate([central, np.array(old[: _ROOTS - len(central)], np.int64)]))


def _costs(
    distances: NDArray[np.float64], against: NDArray[np.float64], prior: NDArray[np.float64], root: int
) -> NDArray[np.float64]:
    """n x n: what the edge u -> v costs in the tree of this root, as a negative log-likelihood."""
    with np.errstate(divide="ignore"):
        return np.asarray(SHARPNESS * np.log(ancestor_costs(distances, root)) + CUE * against + prior[:-1])


def _direction(cues: dict[str, float]) -> float:
    return sum(log_odds(name, value) for name, value in cues.items() if name != "kurtosis")


def _tree(costs: NDArray[np.float64], neighbours: NDArray[np.int64], root: int) -> NDArray[np.int64]:
    n, k = neighbours.shape
    head = np.concatenate([np.repeat(np.arange(n), k), np.delete(np.arange(n), root)])
    tail = np.concatenate([neighbours.reshape(-1), np.full(n - 1, root)])
    keep = head != root
    head, tail = head[keep], tail[keep]
    return minimum_directed_spanning_forest(n, tail, head, costs[tail, head], np.inf, root=root)


def _score(costs: NDArray[np.float64], parent: NDArray[np.int64], cues: Cues) -> float:
    """Log-odds of the root of this tree, up to a constant."""
    children = np.flatnonzero(parent >= 0)
    edges = [cues(int(parent[v]), int(v)) for v in children]
    fall = np.array([edge["kurtosis"] for edge in edges if edge["zeros"] == 0.0])
    # Kurtosis falls in specialization and rises in generalization. The stage is not known, but one stage governs
    # most of a tree: either sign, as long as it is one sign, speaks for a root.
    stage = np.logaddexp(np.log(SPECIALIZATION) + _monotone(fall), np.log(1 - SPECIALIZATION) + _monotone(-fall))
    total = float(costs[parent[children], children].sum())
    return float(stage - ROOT * total - ARRIVALS * np.log(_subtree_sizes(parent)).sum())


def _monotone(fall: NDArray[np.float64]) -> float:
    """Log-likelihood that kurtosis falls along every edge, where a share STRAY of edges moves either way."""
    chance = 1.0 / (1.0 + np.exp(-CUES["kurtosis"].weight * fall))
    return float(np.log((1 - STRAY) * chance + STRAY / 2).sum())


def _subtree_sizes(parent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nodes at and below each node. n! over their product counts the orders in which the tree can have grown."""
    depth = np.zeros(len(parent), np.int64)
    current = parent.copy()
    while (alive := current >= 0).any():
        depth += alive
        current = np.where(alive, parent[current], -1)
    sizes = np.ones(len(parent))
    for v in np.argsort(-depth, kind="stable"):
        if parent[v] >= 0:
            sizes[parent[v]] += sizes[v]
    return sizes


def _parent_chances(
    costs: NDArray[np.float64], neighbours: NDArray[np.int64], parent: NDArray[np.int64], root: int
) -> NDArray[np.float64]:
    """n x n: for each model (row), how likely each other is its parent, given this root and the rest of its tree."""
    n, k = neighbours.shape
    rows = np.repeat(np.arange(n), k)
    allowed = np.full((n, n), np.inf)
    allowed[rows, neighbours.reshape(-1)] = costs[neighbours.reshape(-1), rows]
    allowed[:, root] = costs[root]
    # A descendant as parent would close a circle, unless the two change places: then it hangs where the model hung.
    below = np.arange(n)
    above = parent[below]
    while (inside := above >= 0).any():
        below, above = below[inside], above[inside]
        allowed[above, below] = np.inf
        above = parent[above]
    child = np.flatnonzero(parent >= 0)
    child = child[parent[parent[child]] >= 0]
    middle = parent[child]
    allowed[middle, child] = costs[child, middle] + costs[parent[middle], child] - costs[middle, child]
    allowed[root] = np.inf
    with np.errstate(invalid="ignore"):
        chance = np.exp((allowed.min(axis=1, keepdims=True) - allowed) / TEMPERATURE)
    chance[root] = 0.0
    return np.asarray(chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-300))


def _ancestry(parent: NDArray[np.int64], chances: NDArray[np.float64]) -> Ancestry:
    """The answer from the tree and each model's distribution over parents; column n stands for "is the root"."""
    n = len(parent)
    chosen = np.where(parent >= 0, parent, n)
    confidence = chances[np.arange(n), chosen]
    others = chances[:, :n].copy()
    others[np.flatnonzero(parent >= 0), parent[parent >= 0]] = -1.0
    runner_up = np.argmax(others, axis=1)
    second = others[np.arange(n), runner_up]
    return Ancestry(parent, confidence, np.where(second > 0, runner_up, -1), np.maximum(second, 0.0))
