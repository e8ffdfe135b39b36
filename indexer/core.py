"""A component measured, and its core: the models without copies and derived ones, and all that parents are found by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import Combination
from indexer.cues import measure_cues
from indexer.distance import Pairs, measure_pairs, normalised
from indexer.family import Family
from indexer.inheritance import inheritance_costs
from indexer.merge import find_merges
from indexer.ranks import rank_costs
from indexer.shortlist import nearest

__all__ = ["Core", "Measured", "find_core", "measure_tree"]

DENSE: Final = 1500
"""Components up to this size have all pairs measured; larger ones their shortlist and the likely roots' pairs."""
SHORTLIST: Final = 64


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
    prior: NDArray[np.float64]
    """(n + 1) x n: what equal tensors, ranks and metadata add to the cost of each edge and, in the last row, root."""
    cues: Callable[[int, int], dict[str, float]]
    """Direction cues of a pair of rows, measured once."""


def measure_tree(tree: Family) -> Measured:
    """All pairs of a component of at least two distinct models, or of a large one those that can matter."""
    pairs = _pairs(tree, normalised(tree))
    return Measured(
        pairs,
        _matrix(pairs, pairs.squared, len(tree), 0.0, np.inf),
        _matrix(pairs, pairs.correlation, len(tree), 1.0, -np.inf),
    )


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

    prior = inheritance_costs(family) + rank_costs(family, inside) + (0.0 if claimed is None else claimed)
    return Core(family, inside, find_merges(family, inside), prior, cues)


def _pairs(tree: Family, rows: NDArray[np.float64]) -> Pairs:
    n = len(tree)
    if n <= DENSE:
        a, b = np.triu_indices(n, 1)
        return measure_pairs(tree, rows, a, b)
    residual = tree.samples - tree.samples.mean(axis=0)
    scale = np.repeat(np.sqrt(tree.elements / np.diff(tree.starts)), np.diff(tree.starts))
    residual *= scale
    a, b = nearest(residual, SHORTLIST, inner_product=False)
    central = np.argsort((residual**2).sum(axis=1), kind="stable")[:SHORTLIST]
    to_all = np.array([(min(r, v), max(r, v)) for r in central for v in range(n) if r != v], np.int64)
    pairs = np.unique(np.concatenate([np.stack([a, b], axis=1), to_all]), axis=0)
    return measure_pairs(tree, rows, pairs[:, 0], pairs[:, 1])


def _matrix(
    pairs: Pairs, values: NDArray[np.float64], n: int, diagonal: float, unmeasured: float
) -> NDArray[np.float64]:
    matrix = np.full((n, n), unmeasured)
    matrix[pairs.a, pairs.b] = values
    matrix[pairs.b, pairs.a] = values
    np.fill_diagonal(matrix, diagonal)
    return matrix
