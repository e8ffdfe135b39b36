"""A large component measured: the nearest of each model, and what else is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer import finders
from indexer.derived import LEAST_ZEROS, short_rows
from indexer.distance import Pairs, correlations, measure_pairs, normalised, squared_distances
from indexer.family import Family
from indexer.kept_lists import Kept, Records
from indexer.memo import Memo
from indexer.sparse import Sparse
from indexer.vicinity import coordinates, listed, nearest_kept, nearest_of, recall, row_of

__all__ = ["LargeMeasured", "between", "measure_large"]

LISTED: Final = 32
"""Nearest that are measured of each model."""
SAMPLED: Final = 16
"""Models of a component whose lists are compared with all distances."""
_LIKELY: Final = 8
"""Those that a product in float32 calls likeliest, which are measured in float64."""
_BLOCK: Final = 256
_MEASURED: Final = ("correlation", "shared", "equal")
"""What is kept of each listed pair beside its distance."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LargeMeasured:
    """A component of m distinct models, each with its nearest."""

    pairs: Pairs
    squared: Sparse
    correlation: Sparse
    vectors: NDArray[np.float32]
    """m x D: `indexer.vicinity.coordinates`."""
    near: Ints
    """m x LISTED, nearest first."""
    recall: float
    """Of these lists, measured on a sample."""


def measure_large(tree: Family, memo: Memo | None = None) -> LargeMeasured:
    """The nearest of each model; of one with many zeros also those nearest in what is no zero, and of one in eight bits
    those that correlate most. What `memo` has kept of them is not measured again."""
    m = len(tree)
    vectors = coordinates(tree)
    records = _records(tree, vectors, memo or Memo())
    near = nearest_of(records, LISTED)
    held = near >= 0
    a, b = np.repeat(np.arange(m), held.sum(axis=1)), near[held]
    zeroed = np.flatnonzero(tree.zeros - tree.zeros.min() >= LEAST_ZEROS)
    extra = _measured(tree, *nearest_kept(tree, vectors, zeroed, LISTED))
    told = {name: (records[name][:, :LISTED][held], getattr(extra, name)) for name in ("squared", *_MEASURED)}
    pairs = _once(tree, np.append(a, extra.a), np.append(b, extra.b), *map(np.concatenate, told.values()))
    squared = Sparse(m, pairs.a, pairs.b, pairs.squared, diagonal=0.0, unknown=np.inf, measure=between(tree))
    sample = np.array(sorted(range(m), key=lambda row: tree.content_hashes[row])[:SAMPLED], np.int64)
    return LargeMeasured(pairs, squared, _correlated(tree), vectors, near, recall(tree, near, sample))


def between(family: Family) -> Callable[[Ints, Ints], Floats]:
    """Squared distances of P pairs of rows."""
    return lambda a, b: squared_distances(family, a, b)[0]


def _records(tree: Family, vectors: NDArray[np.float32], memo: Memo) -> Records:
    """The list of each model with what is measured of its pairs."""
    m = len(tree)
    kind = row_of(m, LISTED, *((name, "<f8", (min(LISTED, m - 1),)) for name in _MEASURED))
    # Coordinates are seen from the model whose content hash comes first.
    kept = Kept(memo, f"near {kind.itemsize}", min(tree.content_hashes), b"")
    records = np.zeros(m, kind)
    rows = listed(tree, vectors, records, kept.read(tree, kind))
    near = nearest_of(records[rows], LISTED)
    held = near >= 0
    pairs = _measured(tree, np.repeat(rows, held.sum(axis=1)), near[held])
    for name in _MEASURED:
        values = np.zeros(near.shape)
        values[held] = getattr(pairs, name)
        records[name][rows] = values
    if m <= finders.WHOLE:
        kept.write(tree, records)
    return records


def _measured(tree: Family, a: Ints, b: Ints) -> Pairs:
    """These pairs, with no more than their models at hand; each is measured once."""
    m = len(tree)
    keys, back = np.unique(np.minimum(a, b) * m + np.maximum(a, b), return_inverse=True)
    low, high = keys // m, keys % m
    rows, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    some = tree.take(rows)
    found = measure_pairs(some, normalised(some), *at.reshape(2, -1))
    values = (found.squared, found.distance, found.correlation, found.shared, found.equal)
    return Pairs(a, b, *(each[back] for each in values))


def _once(tree: Family, a: Ints, b: Ints, squared: Floats, correlation: Floats, shared: Floats, equal: Floats) -> Pairs:
    """Each of these pairs once."""
    m = len(tree)
    keys, first = np.unique(np.minimum(a, b) * m + np.maximum(a, b), return_index=True)
    squared, correlation, shared, equal = (each[first] for each in (squared, correlation, shared, equal))
    distance = np.sqrt(squared / tree.elements.sum())
    return Pairs(keys // m, keys % m, squared, distance, correlation, shared, equal)


def _correlated(tree: Family) -> Sparse:
    """Correlations of what is stored in eight bits with the others that it correlates with most."""
    m = len(tree)
    short = short_rows(tree)
    other = np.flatnonzero(~short)
    eight = np.flatnonzero(short) if other.size else np.empty(0, np.int64)
    best, values = np.zeros(len(eight), np.int64), np.zeros(len(eight))
    rows = normalised(tree) if eight.size else np.empty((0, 0), np.float32)
    for first in range(0, len(eight), _BLOCK):
        block = eight[first : first + _BLOCK]
        likely = rows[block] @ rows.T
        likely[:, short] = -np.inf
        k = min(_LIKELY, other.size)
        near = np.sort(np.argpartition(-likely, k - 1, axis=1)[:, :k], axis=1)
        told = correlations(rows, np.repeat(block, k), near.reshape(-1)).reshape(near.shape)
        at = np.arange(len(block))
        best[first + at], values[first + at] = near[at, np.argmax(told, axis=1)], told.max(axis=1)
    return Sparse(m, eight, best, values, diagonal=1.0, unknown=-np.inf)
