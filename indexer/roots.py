"""Which model of a component is the root: one decision for the whole tree, by all evidence together.

A spanning tree has no direction, and no single cue finds its root on every kind of family. For each candidate the
spanning tree that it would have is scored: how likely its increments and its edges' direction cues are, whether
kurtosis moves one way along it. To that come the increment cues from the root to all models, not along edges alone
(growth is left out there: what siblings drift apart by looks like it), and the shape of the tree of parents: how many
orders of arrival it allows, and whether models with one child, as along a run's checkpoints, keep to themselves.

The weights are a conditional logit over candidates, fitted and cross-validated as docs/accuracy.md says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from indexer.cues import CUES

__all__ = ["root_log_odds", "subtree_sizes"]

COST: Final = 1.2
"""Weight of a spanning tree's cost, over the root of the number of models: edges are not independent witnesses."""
STAGE: Final = 0.9
"""Weight of kurtosis along its edges, over the same."""
ARRIVALS: Final = 0.4
"""Weight of the log number of arrival orders of a tree with this root (Shah and Zaman's rumour centrality), over the
same."""
OF_ALL: Final[Mapping[str, float]] = {"increment_spread": 0.5, "increment_zero": 0.75, "counter": 0.5}
"""Weights of the mean log-odds of direction cues from the root to all models, times the root of their number."""
CHAINS: Final = 0.8
"""Weight of `_chains`."""
SPECIALIZATION: Final = 0.65
"""Prior probability that a tree's edges are specialization: most published children are fine-tuned."""
STRAY: Final = 0.1
"""Share of edges on which kurtosis moves at random: small steps, few layers, mixed stages."""


def root_log_odds(
    root: int,
    spanning: NDArray[np.int64],
    cost: float,
    parent: NDArray[np.int64],
    cues: Mapping[str, NDArray[np.float64]],
    measured: NDArray[np.bool_],
) -> float:
    """Log-odds of one candidate, up to a constant of the component.

    `spanning` (n) is the spanning tree with this root and `cost` its cost as a negative log-likelihood; `parent` (n) is
    its tree of parents; `cues` are n x n, antisymmetric, 0 where not `measured`.
    """
    n = len(parent)
    child = np.flatnonzero(spanning >= 0)
    fall = cues["kurtosis"][spanning[child], child][cues["zeros"][spanning[child], child] == 0.0]
    # Kurtosis falls in specialization and rises in generalization. The stage is not known, but one stage governs
    # most of a tree: either sign, as long as it is one sign, speaks for a root.
    stage = np.logaddexp(np.log(SPECIALIZATION) + _monotone(fall), np.log(1 - SPECIALIZATION) + _monotone(-fall))
    arrivals = -float(np.log(subtree_sizes(parent)).sum())
    of_all = (
        sum(
            weight * float(CUES[name].log_odds(cues[name][root, measured[root]]).mean())
            for name, weight in OF_ALL.items()
        )
        if measured[root].any()
        else 0.0
    )
    scale = float(np.sqrt(n))
    return (
        (STAGE * float(stage) - COST * cost + ARRIVALS * arrivals) / scale + scale * of_all + CHAINS * _chains(parent)
    )


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
