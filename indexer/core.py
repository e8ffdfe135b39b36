"""A component measured, and its core: the models without copies and derived ones, and all that parents are found by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import Combination
from indexer.cue_memory import CueMemory
from indexer.cues import measure_cues
from indexer.distance import Pairs, measure_pairs, normalised
from indexer.family import Family
from indexer.inheritance import inheritance_costs
from indexer.memo import Memo
from indexer.merge import find_merges
from indexer.prior import Prior
from indexer.ranks import rank_costs

__all__ = ["DENSE", "Core", "Measured", "family_cues", "find_core", "measure_tree"]

DENSE: Final = 320
"""Components of more models than this are solved by neighbourhoods (`indexer.large`)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A component of m distinct models."""

    pairs: Pairs
    squared: NDArray[np.float64]
    """m x m; infinite where not measured."""
    correlation: NDArray[np.float64]
    """m x m; minus infinity where not measured."""


@dataclass(frozen=True, slots=True)
class Core:
    """n models whose parents are searched for."""

    family: Family
    squared: NDArray[np.float64]
    """n x n squared distances."""
    merges: Mapping[int, Combination]
    """Row -> what it was merged from."""
    prior: Prior
    """What equal tensors, ranks and metadata add to the cost of each edge."""
    cues: CueMemory
    """Direction cues of a pair of rows, measured once."""


def measure_tree(tree: Family) -> Measured:
    """All pairs of a component of at least two distinct models."""
    a, b = np.triu_indices(len(tree), 1)
    pairs = measure_pairs(tree, normalised(tree), a, b)
    return Measured(
        pairs,
        _matrix(pairs, pairs.squared, len(tree), 0.0, np.inf),
        _matrix(pairs, pairs.correlation, len(tree), 1.0, -np.inf),
    )


def find_core(
    tree: Family,
    squared: NDArray[np.float64],
    derived: Collection[int],
    claimed: NDArray[np.float64] | None = None,
    memo: Memo | None = None,
) -> Core:
    """The core of `tree`, a component without copies, given its m x m squared distances and its derived rows.

    `claimed` is the prior of metadata, of the core.
    """
    rows = np.array([row for row in range(len(tree)) if row not in derived], np.int64)
    family = tree.take(rows)
    inside = squared[np.ix_(rows, rows)]
    edges = inheritance_costs(family) + (0.0 if claimed is None else claimed)
    memo = memo or Memo()
    prior = Prior(edges, rank_costs(family, inside, memo))
    cues = CueMemory(family, family_cues(family), memo)
    return Core(family, inside, find_merges(family, inside, memo=memo), prior, cues)


def family_cues(family: Family) -> Callable[[int, int], dict[str, float]]:
    """The direction cues of a pair of rows, each measured once."""
    measured: dict[tuple[int, int], dict[str, float]] = {}

    def cues(u: int, v: int) -> dict[str, float]:
        if (u, v) not in measured:
            measured[u, v] = measure_cues(family, u, v)
        return measured[u, v]

    return cues


def _matrix(
    pairs: Pairs, values: NDArray[np.float64], n: int, diagonal: float, unmeasured: float
) -> NDArray[np.float64]:
    matrix = np.full((n, n), unmeasured)
    matrix[pairs.a, pairs.b] = values
    matrix[pairs.b, pairs.a] = values
    np.fill_diagonal(matrix, diagonal)
    return matrix
