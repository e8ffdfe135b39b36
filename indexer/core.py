"""The core of a component: its models without copies and derived ones, and all that parents are searched by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.combination import Combination
from indexer.cues import measure_cues
from indexer.family import Family
from indexer.inheritance import inheritance_costs
from indexer.merge import find_merges

__all__ = ["Core", "find_core"]


@dataclass(frozen=True, slots=True)
class Core:
    """n models whose parents are searched for."""

    family: Family
    squared: NDArray[np.float64]
    """n x n squared distances."""
    merges: Mapping[int, Combination]
    """Row -> what it was merged from."""
    prior: NDArray[np.float64]
    """(n + 1) x n: what equal tensors and metadata add to the cost of each edge and, in the last row, root."""
    cues: Callable[[int, int], dict[str, float]]
    """Direction cues of a pair of rows, measured once."""


def find_core(
    tree: Family, squared: NDArray[np.float64], derived: Collection[int], claimed: NDArray[np.float64] | None = None
) -> Core:
    """The core of `tree`, a component without copies, given its m x m squared distances and its derived rows.

    `claimed` is the prior of metadata, of the core.
    """
    rows = np.array([row for row in range(len(tree)) if row not in derived], np.int64)
    family = tree.take(rows)
    inside = squared[np.ix_(rows, rows)]
    measured: dict[tuple[int, int], dict[str, float]] = {}

    def cues(u: int, v: int) -> dict[str, float]:
        if (u, v) not in measured:
            measured[u, v] = measure_cues(family, u, v)
        return measured[u, v]

    prior = inheritance_costs(family) + (0.0 if claimed is None else claimed)
    return Core(family, inside, find_merges(family, inside), prior, cues)
