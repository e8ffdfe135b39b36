"""A large component measured: the nearest of each model, and what else is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.derived import LEAST_ZEROS, short_rows
from indexer.distance import Pairs, correlations, measure_pairs, normalised, squared_distances
from indexer.family import Family
from indexer.finders import Finder, finder_of
from indexer.kept_lists import FRESH, Kept, Records
from indexer.memo import Memo
from indexer.pruned_lists import pruned_pairs
from indexer.recall import recall, sampled
from indexer.sparse import Sparse
from indexer.symmetric import each_way
from indexer.vicinity import coordinates, listed, nearest_of, row_of, seen_from

__all__ = ["LargeMeasured", "between", "measure_large"]

LISTED: Final = 32
"""Nearest that are measured of each model."""
_BLOCK: Final = 256
_MEASURED: Final = ("correlation", "shared", "equal")
"""What is kept of each listed pair beside its distance."""
_NORMALISED: Final = 1 << 29
"""Bytes of models that are normalised at a time."""
_EIGHT: Final = "eight bits"
_BEST: Final = np.dtype([("key", "u1", 16), ("value", "<f8")])

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
    memo = memo or Memo()
    kind = row_of(m, LISTED, *((name, "<f8", (min(LISTED, m - 1),)) for name in _MEASURED), ("precision", "<i8"))
    vectors = coordinates(tree, memo.processes)
    finder = finder_of(vectors)
    # Lists follow from whom coordinates are seen from, too.
    told = tree.content_keys[seen_from(tree)].tobytes()
    kept = Kept(memo, f"near {kind.itemsize}", min(tree.content_hashes), told + finder.told)
    known = kept.read(tree, kind)
    fresh = np.arange(m) if known is None else np.flatnonzero((known["near"] == FRESH).all(axis=1))
    if known is not None:
        # Asked in any case: by whom recall is measured, and those in eight bits.
        some = np.concatenate([fresh, sampled(tree), np.flatnonzero(short_rows(tree))])
        tree.samples.at_hand(some)
        memo.want(tree.content_hashes[row] for row in some.tolist())
        known["precision"][fresh] = tree.samples.take(fresh).precisions()
        tree.note_precision(known["precision"].copy())
    records = _records(tree, finder, vectors, kind, known, memo.processes)
    kept.write(tree, records)
    near = nearest_of(records, LISTED)
    held = near >= 0
    a, b = np.repeat(np.arange(m), held.sum(axis=1)), near[held]
    extra = _in_what_is_kept(tree, vectors, memo, told)
    values = {name: (records[name][:, :LISTED][held], getattr(extra, name)) for name in ("squared", *_MEASURED)}
    pairs, squared = _once(tree, np.append(a, extra.a), np.append(b, extra.b), *map(np.concatenate, values.values()))
    return LargeMeasured(
        pairs, squared, _correlated(tree, fresh, kept), vectors, near, recall(tree, near, fresh, kept)
    )  # fmt: skip


def between(family: Family) -> Callable[[Ints, Ints], Floats]:
    """Squared distances of P pairs of rows."""
    return lambda a, b: squared_distances(family, a, b)[0]


def _records(
    tree: Family,
    finder: Finder,
    vectors: NDArray[np.float32],
    kind: np.dtype[np.void],
    known: Records | None,
    threads: int,
) -> Records:
    """The list of each model with what is measured of its pairs."""
    records = np.zeros(len(tree), kind)
    rows, places = listed(tree, finder, vectors, records, known, threads=threads)
    records["precision"] = tree.precision
    near = nearest_of(records[rows], LISTED)
    places = places[:, : near.shape[1]]
    held = (near >= 0) & (places >= 0) & (places < near.shape[1])
    new = (near >= 0) & ~held
    pairs = _measured(tree, np.repeat(rows, new.sum(axis=1)), near[new])
    for name in _MEASURED:
        values = np.zeros(near.shape)
        if known is not None:
            values[held] = known[name][rows[np.nonzero(held)[0]], places[held]]
        values[new] = getattr(pairs, name)
        records[name][rows] = values
    return records


def _in_what_is_kept(tree: Family, vectors: NDArray[np.float32], memo: Memo, told: bytes) -> Pairs:
    """Of each model with many zeros, the pairs with those that are nearest in what is no zero."""
    zeroed = np.flatnonzero(tree.zeros - tree.zeros.min() >= LEAST_ZEROS)

    def measure(a: Ints, b: Ints) -> Floats:
        found = _measured(tree, a, b)
        return np.stack([found.squared, found.correlation, found.shared, found.equal], axis=1)

    a, b, values = pruned_pairs(tree, vectors, zeroed, LISTED, measure, memo, told)
    squared, correlation, shared, equal = values.T
    return Pairs(a, b, squared, np.sqrt(squared / tree.elements.sum()), correlation, shared, equal)


def _measured(tree: Family, a: Ints, b: Ints) -> Pairs:
    """These pairs, with no more than their models at hand; each is measured once."""
    m = len(tree)
    keys, back = np.unique(np.minimum(a, b) * m + np.maximum(a, b), return_inverse=True)
    low, high = keys // m, keys % m
    rows, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    # Pairs of two blocks of rows at a time: to correlate them they are normalised.
    blocks = at.reshape(2, -1) // max(1, _NORMALISED // (8 * tree.samples.shape[1]))
    told = np.empty((5, len(keys)))
    for cell in _alike(blocks[0] * (len(rows) + 1) + blocks[1]) if blocks.max(initial=0) > 1 else [slice(None)]:
        there, places = np.unique(np.concatenate([low[cell], high[cell]]), return_inverse=True)
        some = tree.take(there)
        found = measure_pairs(some, normalised(some), *places.reshape(2, -1))
        told[:, cell] = found.squared, found.distance, found.correlation, found.shared, found.equal
    return Pairs(a, b, *(each[back] for each in told))


def _alike(numbers: Ints) -> list[Ints]:
    """Where each number stands that there is, one after the other."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _once(
    tree: Family, a: Ints, b: Ints, squared: Floats, correlation: Floats, shared: Floats, equal: Floats
) -> tuple[Pairs, Sparse]:
    """Each of these pairs once, by rising rows; squared distances both ways."""
    starts, columns, first = each_way(len(tree), a, b)
    matrix = Sparse.of_lists(starts, columns, squared[first], diagonal=0.0, unknown=np.inf, measure=between(tree))
    rows = np.repeat(np.arange(len(tree)), np.diff(starts))
    above = rows < columns
    first = first[above]
    squared, correlation, shared, equal = (each[first] for each in (squared, correlation, shared, equal))
    distance = np.sqrt(squared / tree.elements.sum())
    return Pairs(rows[above], columns[above], squared, distance, correlation, shared, equal), matrix


def _correlated(tree: Family, fresh: Ints, kept: Kept) -> Sparse:
    """Correlations of what is stored in eight bits with the other that it correlates with most, the lower row of two.

    Where that is known of all whose lists were `kept`, only those that are `fresh` are asked.
    """
    m = len(tree)
    short = short_rows(tree)
    other = np.flatnonzero(~short)
    eight = np.flatnonzero(short) if other.size else np.empty(0, np.int64)
    best, values = np.full(len(eight), -1), np.full(len(eight), -np.inf)
    before, keys = kept.beside(_EIGHT, _BEST.itemsize), list(map(bytes, tree.content_keys[eight]))
    # As in `recall`: who comes elsewhere now may stand on the other side of whoever correlates as much.
    there = np.setdiff1d(np.arange(m), fresh) if eight.size else eight
    place = {bytes(tree.content_keys[row]): row for row in there.tolist()}
    for at in np.flatnonzero(~np.isin(eight, fresh)).tolist():
        if keys[at] in before:
            told = np.frombuffer(before[keys[at]], _BEST)[0]
            best[at], values[at] = place.get(told["key"].tobytes(), -1), told["value"]
    anew = best < 0
    values[anew] = -np.inf
    _best(tree, eight[anew], other, best_of := best[anew], value_of := values[anew])
    best[anew], values[anew] = best_of, value_of
    _best(tree, eight[~anew], np.intersect1d(other, fresh), best_of := best[~anew], value_of := values[~anew])
    best[~anew], values[~anew] = best_of, value_of
    # Damaged weights correlate with nothing.
    best[best < 0], values[~np.isfinite(values)] = other[0] if other.size else -1, 0.0
    found = np.zeros(len(eight), _BEST)
    found["key"], found["value"] = tree.content_keys[best], values
    kept.write_beside(tree, _EIGHT, dict(zip(keys, (each.tobytes() for each in found), strict=True)))
    return Sparse(m, eight, best, values, diagonal=1.0, unknown=-np.inf)


def _best(tree: Family, rows: Ints, others: Ints, best: Ints, values: Floats) -> None:
    """Put the one of `others` that each row correlates with most, and how much, in place of what is less."""
    size = max(1, _NORMALISED // (8 * max(1, tree.samples.shape[1])))
    for first in range(0, len(rows), size):
        asked = normalised(tree.take(rows[first : first + size]))
        most = np.full((len(asked), 1), -np.inf, np.float32)
        for start in range(0, len(others), size):
            among = others[start : start + size]
            found = _likeliest(asked, normalised(tree.take(among)), most)
            for i, other, value in zip(*(each.tolist() for each in found), strict=True):
                at, model = first + i, int(among[other])
                if (value, -model) > (values[at], -best[at]):
                    best[at], values[at] = model, value


def _likeliest(
    asked: NDArray[np.float32], there: NDArray[np.float32], most: NDArray[np.float32]
) -> tuple[Ints, Ints, Floats]:
    """(i, j, correlation) of pairs of the two, those in which j may be the one that i correlates with most, here or in
    what was asked before; `most` says how much that is at least, and is told."""
    # Rows are of length 1 at most. What a product in float32 may have lost:
    error = 2 * asked.shape[1] * 2.0**-24
    found: list[tuple[Ints, Ints, Floats]] = []
    for first in range(0, len(asked), _BLOCK):
        block = slice(first, first + _BLOCK)
        rough = asked[block] @ there.T
        # Damaged weights correlate with nothing.
        most[block] = np.fmax(most[block], np.fmax.reduce(rough, axis=1, keepdims=True))
        i, j = np.nonzero(rough >= most[block] - error)
        found.append((first + i, j, correlations(asked, first + i, j, there)))
    return tuple(np.concatenate(each) for each in zip(*found, strict=True))  # type: ignore[return-value]
