"""Which model of a component is the root: one decision for the whole tree, by all evidence together.

A spanning tree has no direction, and no single cue finds its root on every kind of family. For each candidate the
spanning tree that it would have is scored: how likely its increments and its edges' direction cues are, whether
kurtosis moves one way along it, how many orders of arrival its shape allows. To that come the direction cues from the
root to all models, not along edges alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.cues import CUES

__all__ = ["root_log_odds", "subtree_sizes"]

ROOT: Final = 1.5
"""Weight of a tree's cost in the score of its root."""
ARRIVALS: Final = 0.55
"""Weight of the log number of arrival orders of a tree with this root (Shah and Zaman's rumour centrality)."""
SPECIALIZATION: Final = 0.65
"""Prior probability that a tree's edges are specialization: most published children are fine-tuned."""
STRAY: Final = 0.1
"""Share of edges on which kurtosis moves at random: small steps, few layers, mixed stages."""
TREE: Final = 0.9
"""Weight of the tree's score over the root of the number of models: edges are not independent witnesses."""
OF_ALL: Final = 0.2
"""Weight of the mean log-odds of the direction cues from the root to all models, times the root of their number."""


def root_log_odds(
    root: int,
    parent: NDArray[np.int64],
    cost: float,
    cues: Mapping[str, NDArray[np.float64]],
    votes: NDArray[np.float64],
    measured: NDArray[np.bool_],
) -> float:
    """Log-odds of one candidate, up to a constant of the component.

    `parent` (n) is the spanning tree with this root and `cost` its cost as a negative log-likelihood; `cues` are n x n,
    antisymmetric, 0 where not `measured`; `votes` is the sum of their log-odds, kurtosis left out.
    """
    n = len(parent)
    child = np.flatnonzero(parent >= 0)
    fall = cues["kurtosis"][parent[child], child][cues["zeros"][parent[child], child] == 0.0]
    # Kurtosis falls in specialization and rises in generalization. The stage is not known, but one stage governs
    # most of a tree: either sign, as long as it is one sign, speaks for a root.
    stage = np.logaddexp(np.log(SPECIALIZATION) + _monotone(fall), np.log(1 - SPECIALIZATION) + _monotone(-fall))
    tree = float(stage) - ROOT * cost - ARRIVALS * float(np.log(subtree_sizes(parent)).sum())
    seen = votes[root, measured[root]]
    return TREE * tree / float(np.sqrt(n)) + OF_ALL * float(np.sqrt(n)) * (float(seen.mean()) if seen.size else 0.0)


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
