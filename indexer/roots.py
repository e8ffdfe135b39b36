"""Which model of a component is the root: one decision for the whole tree, by all evidence together.

A spanning tree has no direction, and no single cue finds its root on every kind of family. For each candidate the
spanning tree that it would have is scored: how likely its increments and its edges' direction cues are, whether
kurtosis moves one way along it. To that come the increment cues from the root to all models, not along edges alone
(growth is left out there: what siblings drift apart by looks like it), and the shape of the tree of parents: how many
orders of arrival it allows, whether models with one child, as along a run's checkpoints, keep to themselves, and how
well regression and partial correlations agree with it.

The weights are a conditional logit over candidates, fitted and cross-validated as docs/accuracy.md says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from indexer.cues import CUES

__all__ = ["FEATURES", "WEIGHTS", "RootedTree", "parents_first", "root_features", "subtree_sizes"]

FEATURES: Final = (
    "cost", "stage", "regressed", "adjacent", "arrivals", "increment_spread", "increment_zero", "counter", "chains"
)  # fmt: skip
"""What a candidate is scored by, as of `root_features`."""
WEIGHTS: Final = np.array([1.2, 1.0, 0.5, 0.7, 0.6, 0.85, 1.0, 0.65, 1.0])
"""Weights of FEATURES in a candidate's log-odds, from the fit that docs/accuracy.md describes."""
OF_ALL: Final = ("increment_spread", "increment_zero", "counter")
WITNESSES: Final = 9
"""Models of which a cue's mean from the root to all is taken as independent, at most: trained alike, they err alike."""
BY_CHANCE: Final = 1.5
"""Log-odds that the best of a model's neighbours has without being its parent: no credit to a tree with this root."""
SURE: Final = 3.0
"""Log-odds that a slope of 1 gives a parent, and one of 0 gives all others together (`indexer.regression`)."""
CROWD: Final = 20
GROWTH: Final = 0.5
"""Evidence grows with the models of a component beyond CROWD as this power of them: slower than if they were
independent, but it grows."""
SPECIALIZATION: Final = 0.65
"""Prior probability that a tree's edges are specialization: most published children are fine-tuned."""
STRAY: Final = 0.1
"""Share of edges on which kurtosis moves at random: small steps, few layers, mixed stages."""


@dataclass(frozen=True, slots=True)
class RootedTree:
    """What a candidate root would mean for a component of n models."""

    root: int
    spanning: NDArray[np.int64]
    """n: the spanning tree with this root."""
    cost: float
    """Its cost as a negative log-likelihood."""
    parent: NDArray[np.int64]
    """n: the tree of parents with this root."""
    regressed: NDArray[np.float64]
    """n x n: regression log-odds given this root (`indexer.regression`)."""


def root_features(
    tree: RootedTree,
    adjacent: NDArray[np.float64],
    cues: Mapping[str, NDArray[np.float64]],
    measured: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """FEATURES of one candidate, each a log-likelihood up to its weight and a constant of the component.

    `adjacent` (n x n) is the evidence of partial correlations; `cues` are n x n, antisymmetric, 0 where not `measured`.
    Sums over edges are divided by the root of the number of models: edges are not independent witnesses. All are
    multiplied by a power of it in a large component, as CROWD and GROWTH say.

    - cost: of the spanning tree, negative
    - stage: kurtosis moves one way along its edges
    - regressed: the summed log-odds of all parents, as `_regressed` has them
    - adjacent: the summed evidence that parents and children are adjacent
    - arrivals: minus the log number of orders that the tree of parents cannot have grown in (Shah and Zaman's rumour
      centrality)
    - increment_spread, increment_zero, counter: mean log-odds of these cues from the root to all models
    - chains: `_chains`
    """
    scale = float(np.sqrt(len(tree.parent)))
    child = np.flatnonzero(tree.spanning >= 0)
    parent = tree.spanning[child]
    fall = cues["kurtosis"][parent, child][cues["zeros"][parent, child] == 0.0]
    # Kurtosis falls in specialization and rises in generalization. The stage is not known, but one stage governs
    # most of a tree: either sign, as long as it is one sign, speaks for a root.
    stage = np.logaddexp(np.log(SPECIALIZATION) + _monotone(fall), np.log(1 - SPECIALIZATION) + _monotone(-fall))
    child = np.flatnonzero(tree.parent >= 0)
    along = (
        -tree.cost,
        float(stage),
        _regressed(tree),
        float(adjacent[tree.parent[child], child].sum()),
        -float(np.log(subtree_sizes(tree.parent)).sum()),
    )
    seen = measured[tree.root]
    witnesses = float(np.sqrt(min(len(tree.parent), WITNESSES)))
    to_all = [witnesses * float(CUES[name].log_odds(cues[name][tree.root, seen]).mean()) for name in OF_ALL]
    crowd = float(max(1.0, len(tree.parent) / CROWD) ** GROWTH)
    return np.array([*(value / scale for value in along), *to_all, _chains(tree.parent)]) * crowd


def _regressed(tree: RootedTree) -> float:
    """Summed log-odds that each model's parent is its parent, beyond what the best of its neighbours has by chance.

    The root's own children are measured from it, so that it has no odds: theirs are that no other model is their
    parent. Left out they would speak for any root that has few of them. Where siblings drift together, others look like
    parents of the true root's children: that says nothing.
    """
    child = np.flatnonzero(tree.parent >= 0)
    inner = child[tree.parent[child] != tree.root]
    outer = child[tree.parent[child] == tree.root]
    others = tree.regressed[:, outer]
    others[tree.root] = -np.inf
    others[outer, np.arange(outer.size)] = -np.inf
    none = np.minimum(-others.max(axis=0, initial=-np.inf), SURE)
    own = tree.regressed[tree.parent[inner], inner]
    return float((own - BY_CHANCE).sum() + np.maximum(none - BY_CHANCE, 0.0).sum())


def _chains(parent: NDArray[np.int64]) -> float:
    """Log-likelihood, by a beta-binomial law, of how many of the models with children have only one.

    Checkpoints of one run have one child each, and bases have many: a root amid the run would be the only one with two.
    """
    children = np.bincount(parent[parent >= 0], minlength=len(parent))
    return float(betaln((children == 1).sum() + 0.5, (children > 1).sum() + 0.5))


def _monotone(fall: NDArray[np.float64]) -> float:
    """Log-likelihood that kurtosis falls along every edge, where a share STRAY of edges moves either way."""
    chance = 1.0 / (1.0 + np.exp(-CUES["kurtosis"].weight * fall))
    return float(np.log((1 - STRAY) * chance + STRAY / 2).sum())


def parents_first(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """All nodes, each after its parent: by depth, then by row."""
    depth = np.zeros(len(parent), np.int64)
    current = parent.copy()
    while (alive := current >= 0).any():
        depth += alive
        current = np.where(alive, parent[current], -1)
    return np.argsort(depth, kind="stable")


def subtree_sizes(parent: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nodes at and below each node. n! over their product counts the orders in which the tree can have grown."""
    sizes = np.ones(len(parent))
    for v in parents_first(parent)[::-1]:
        if parent[v] >= 0:
            sizes[parent[v]] += sizes[v]
    return sizes
