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

__all__ = ["RootedTree", "root_log_odds", "subtree_sizes"]

COST: Final = 1.2
"""Weight of a spanning tree's cost, over the root of the number of models: edges are not independent witnesses."""
STAGE: Final = 1.0
"""Weight of kurtosis along its edges, over the same."""
REGRESSED: Final = 0.5
"""Weight of the summed regression log-odds of the parents that are not the root, over the same."""
ADJACENT: Final = 0.7
"""Weight of the summed evidence from partial correlations of parents and children, over the same."""
ARRIVALS: Final = 0.6
"""Weight of the log number of arrival orders of a tree with this root (Shah and Zaman's rumour centrality), over the
same."""
OF_ALL: Final[Mapping[str, float]] = {"increment_spread": 0.85, "increment_zero": 1.0, "counter": 0.65}
"""Weights of the mean log-odds of direction cues from the root to all models, times the root of their number, of which
more than WITNESSES tell no more: in a collection trained alike they err alike."""
WITNESSES: Final = 9
CHAINS: Final = 1.0
"""Weight of `_chains`."""
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


def root_log_odds(
    tree: RootedTree,
    adjacent: NDArray[np.float64],
    cues: Mapping[str, NDArray[np.float64]],
    measured: NDArray[np.bool_],
) -> float:
    """Log-odds of one candidate, up to a constant of the component.

    `adjacent` (n x n) is the evidence of partial correlations; `cues` are n x n, antisymmetric, 0 where not `measured`.
    """
    n = len(tree.parent)
    child = np.flatnonzero(tree.spanning >= 0)
    parent = tree.spanning[child]
    fall = cues["kurtosis"][parent, child][cues["zeros"][parent, child] == 0.0]
    # Kurtosis falls in specialization and rises in generalization. The stage is not known, but one stage governs
    # most of a tree: either sign, as long as it is one sign, speaks for a root.
    stage = np.logaddexp(np.log(SPECIALIZATION) + _monotone(fall), np.log(1 - SPECIALIZATION) + _monotone(-fall))
    child = np.flatnonzero(tree.parent >= 0)
    inner = child[tree.parent[child] != tree.root]
    along = (
        STAGE * float(stage)
        - COST * tree.cost
        + REGRESSED * float(tree.regressed[tree.parent[inner], inner].sum())
        + ADJACENT * float(adjacent[tree.parent[child], child].sum())
        - ARRIVALS * float(np.log(subtree_sizes(tree.parent)).sum())
    )
    seen = measured[tree.root]
    to_all = sum(w * float(CUES[name].log_odds(cues[name][tree.root, seen]).mean()) for name, w in OF_ALL.items())
    return along / float(np.sqrt(n)) + float(np.sqrt(min(n, WITNESSES))) * to_all + CHAINS * _chains(tree.parent)


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


def subtree_sizes(parent: NDArray[np.int64]) -> NDArray[np.float64]:
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
