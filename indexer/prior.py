"""What is known of edges from elsewhere than distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prior"]


@dataclass(frozen=True, slots=True)
class Prior:
    """What evidence from elsewhere than distances adds to the costs of edges among n models, as negative
    log-likelihoods, infinite where it forbids an edge."""

    edges: NDArray[np.float64]
    """(n + 1) x n: to u -> v; its last row is the cost of v as the root."""
    adjacent: NDArray[np.float64]
    """n x n: to u -> v, as much as to v -> u: who is adjacent. It counts among the parents that a model may have, and
    not among roots: a root has no edge above it, and would be chosen for what that edge costs."""

    def take(self, rows: NDArray[np.int64]) -> Prior:
        """That of some of the models."""
        return Prior(self.edges[np.ix_(np.append(rows, len(self.adjacent)), rows)], self.adjacent[np.ix_(rows, rows)])
