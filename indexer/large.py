"""Large components: parents from neighbourhoods, the root from a sample, so that nothing is held n x n.

Given the root, a model's parent is decided by its neighbourhood: the root, the nearest of those that may be its parents
(`indexer.vicinity`), and its nearest of all. The evidence is that of `indexer.ancestry`, seen by these alone; one
minimum directed spanning tree over all candidate edges makes a tree of it. What one more model changes is what it
enters.

The root is one decision for all. It is made among the most central members, the top of the tree, which an arrival
seldom enters; candidates are the most central of them, and those that the cues call old. What is central is told by
distances from a sample, the members whose content hashes come first. Where dates clearly speak for another root, at the
end of a run say, the tree is found anew from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Final, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.ancestry import ROOT_ODDS, Ancestry, alone, candidates
from indexer.answered import Answered, lists_of
from indexer.blocks import in_blocks
from indexer.chances import Chances, told_by_chances
from indexer.costs import floored, parent_costs
from indexer.cue_memory import CueMemory
from indexer.cues import log_odds
from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import Bounds, finder_of
from indexer.forks import in_turns
from indexer.head_start import edge_margins, valley
from indexer.kept_lists import FRESH, Kept
from indexer.mdst import minimum_directed_spanning_forest
from indexer.memo import Memo
from indexer.partial import told_apart
from indexer.prior import Prior
from indexer.regression import SLANT, adjacency, edge_log_odds, either_way, regress
from indexer.roots import FEATURES, WEIGHTS
from indexer.vicinity import listed, nearest_of, row_of

__all__ = ["LocalPrior", "recover_large"]

PARENTS: Final = 16
NEAREST: Final = 4
"""Of a neighbourhood: models that may be parents, and the nearest of all."""
SAMPLE: Final = 192
"""Members whose distances tell who is central, and central ones that a root is judged on."""
MOST: Final = 320
"""What the root has ahead of others grew with the number of models in the components that it was fitted on. It grows no
further."""
ROOTS: Final = 24
"""Candidate roots that are most central, and as many that look old."""
POOL: Final = 256
"""The most central, of which these are looked at."""
_TOLD: Final = np.array([name != "regressed" for name in FEATURES], np.float64)
"""Features that a part of a tree tells. Among the central models a root's children, whose parent is no other, are most:
what regression says of the rest favours roots that have few."""
TURNS: Final = 2
"""How often the tree is turned to the root that dates speak for (`indexer.turned`) and found anew from there."""
FAR: Final = 1e6
"""Cost of an edge from a root with which nothing is shared: dearer than any that was measured."""
_CHUNK: Final = 64

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Cues = Callable[[int, int], dict[str, float]]


class LocalPrior(Protocol):
    """What evidence from elsewhere than distances adds to costs of edges."""

    def ranks(self, v: int, rows: Ints, squared: Floats) -> Floats:
        """k: to u -> v for k rows u at these squared distances from v, by the ranks of differences."""

    def told(self, tails: Ints, heads: Ints) -> Floats:
        """E: to each edge, by equal tensors and metadata. All edges to one head stand together."""

    def sampled(self, rows: Ints) -> Prior:
        """By metadata among k rows. Where most models are left out, neither ranks nor equal tensors tell who is
        adjacent."""

    def metadata(self, rows: Ints) -> str:
        """All that dates and cards say of k rows."""

    def dated_root(self, parent: Ints) -> int:
        """The root that dates clearly speak for, or that of this tree (n, -1 for the root)."""


def recover_large(
    family: Family,
    vectors: NDArray[np.float32],
    near: Ints,
    cues: Cues,
    prior: LocalPrior,
    memo: Memo,
    weights: Floats = WEIGHTS,
) -> tuple[Ancestry, int, Floats]:
    """(Parents, confidences and runners-up of n models; the likeliest root; n squared distances from it). `near` is
    n x k, the nearest of each, -1 where there are fewer.

    `vectors` are `indexer.vicinity.coordinates`.
    """
    n = len(family)
    if n == 1:
        return alone(), 0, np.zeros(1)
    roots, posterior = _roots(family, vectors, near, cues, prior, memo, weights)
    root = int(roots[np.argmax(posterior)])
    for turn in range(TURNS + 1):
        above, reach = _above(family, vectors, root, turn, memo)
        edges = _edges(family, root, above, near[:, :NEAREST], prior, turn, memo)
        parent = minimum_directed_spanning_forest(n, edges.tail, edges.head, edges.cost, np.inf, root=root)
        dated = prior.dated_root(parent)
        if dated == root or turn == TURNS:
            break
        root, roots, posterior = dated, np.array([dated]), np.ones(1)
    return told_by_chances(edges, parent, root, roots, posterior), root, reach


def _of_turn(kind: str, turn: int) -> str:
    """What answers are kept as that follow from the root: those from another one are kept beside them."""
    return kind + " again" * turn


def _above(family: Family, vectors: NDArray[np.float32], root: int, turn: int, memo: Memo) -> tuple[Ints, Floats]:
    """(n x PARENTS: of each model, the nearest of those that may be its parents; n squared distances from the root)."""
    n = len(family)
    kind = row_of(n, PARENTS, ("reach", "<f8"))
    # Who may be a parent follows from the root, and coordinates from whom all are seen.
    finder = finder_of(vectors)
    told = bytes(family.content_keys[root]) + blake3(vectors[root].tobytes()).digest(16) + finder.told
    kept = Kept(memo, f"{_of_turn('above', turn)} {kind.itemsize}", min(family.content_hashes), told)
    known = kept.read(family, kind)
    fresh = np.arange(n) if known is None else np.flatnonzero((known["near"] == FRESH).all(axis=1))
    reach = np.zeros(n) if known is None else known["reach"].copy()
    reach[fresh] = squared_distances(family, np.full(fresh.size, root), fresh)[0]
    reach[root] = 0.0
    records = np.zeros(n, kind)
    listed(family, finder, vectors, records, known, Bounds(reach, root), memo.processes)
    records["reach"] = reach
    kept.write(family, records)
    return nearest_of(records, PARENTS), reach


def _roots(
    family: Family,
    vectors: NDArray[np.float32],
    near: Ints,
    cues: Cues,
    prior: LocalPrior,
    memo: Memo,
    weights: Floats,
) -> tuple[Ints, Floats]:
    """(candidate roots, the posterior of each)."""
    contents = family.content_hashes
    sample = np.array(sorted(range(len(family)), key=lambda row: contents[row])[:SAMPLE], np.int64)
    away = _away(vectors, sample, memo.processes)
    pool = np.argsort(away, kind="stable")[:POOL].tolist()
    memo.want(contents[row] for row in pool)
    age = {row: _age(family, row, near[row, :4], cues, memo) for row in pool}
    old = sorted(pool, key=lambda row: -age[row])
    among = np.array(sorted(pool[:ROOTS] + [row for row in old if row not in pool[:ROOTS]][:ROOTS]), np.int64)
    rows = np.unique(np.concatenate([pool[:SAMPLE], among]))
    places = np.searchsorted(rows, among)

    remembered = CueMemory(family, cues, memo)

    def judged() -> Floats:
        memo.want(contents[row] for row in rows.tolist())
        family.samples.at_hand(rows)
        squared = among_rows(family, rows)
        told = candidates(
            squared,
            lambda u, v: remembered(int(rows[u]), int(rows[v])),
            prior.sampled(rows),
            places,
            memo.processes,
        )
        return np.concatenate([told.root, told.features @ (weights * _TOLD) - told.claimed])

    asked = [*(contents[row] for row in rows), str(places.tolist()), str(weights.tolist()), prior.metadata(rows)]
    found = memo.numbers("roots", contents[sample[0]], asked, judged)
    remembered.keep(rows.tolist())
    half = len(found) // 2
    chance = np.exp(found[half:] - found[half:].max())
    return rows[found[:half].astype(np.int64)], chance / chance.sum()


def _age(family: Family, row: int, near: Ints, cues: Cues, memo: Memo) -> float:
    """How old the cues call a model beside its nearest."""
    near = near[near >= 0]
    contents = family.content_hashes

    def compute() -> Floats:
        return np.array([sum(_older(cues(row, int(other))) for other in near)])

    return float(memo.numbers("age", contents[row], family.content_keys[near].tobytes(), compute)[0])


def _older(cues: dict[str, float]) -> float:
    """How much more likely the first of a pair is the parent, as -log(1 + exp(-odds)) both ways."""
    odds = sum(log_odds(name, value) for name, value in cues.items() if name != "kurtosis")
    return float(np.logaddexp(0.0, odds) - np.logaddexp(0.0, -odds))


def _away(vectors: NDArray[np.float32], rows: Ints, threads: int) -> Floats:
    """n: mean distance from k rows, by coordinates; so many threads work them out."""
    others = vectors[rows].T
    norms = np.einsum("nd,nd->n", vectors[rows], vectors[rows])

    def of(some: slice) -> Floats:
        block = vectors[some]
        squared = np.einsum("nd,nd->n", block, block)[:, None] + norms - 2 * (block @ others)
        apart = np.asarray(np.sqrt(np.maximum(squared, 0.0)), np.float64)
        return np.asarray(apart.mean(axis=1))

    return in_blocks(len(vectors), threads, of)


def among_rows(family: Family, rows: Ints) -> Floats:
    """k x k squared distances of k rows."""
    a, b = np.triu_indices(len(rows), 1)
    squared = np.zeros((len(rows), len(rows)))
    squared[a, b] = squared[b, a] = squared_distances(family, rows[a], rows[b])[0]
    return told_apart(family.take(rows), squared) if (squared[a, b] <= 0).any() else squared


def _edges(family: Family, root: int, above: Ints, near: Ints, prior: LocalPrior, turn: int, memo: Memo) -> Chances:
    """All candidate edges with their costs."""
    n = len(family)
    around = _neighbourhoods(root, above, near)
    answered = Answered(family, memo)
    told = answered.digests(*lists_of(around))
    known, costs = answered.known(_of_turn("parents", turn), told, np.dtype((np.float64, around.shape[1:])))
    asked = [v for v in np.flatnonzero(~known).tolist() if v != root]

    def into(some: list[int]) -> Floats:
        found = costs[some]
        for first in range(0, len(some), _CHUNK):
            chunk = {v: around[v][around[v] >= 0] for v in some[first : first + _CHUNK]}
            for at, (v, rows), squared in zip(count(first), chunk.items(), _blocks(family, chunk.values())):
                found[at, : len(rows)] = _costs(squared)[:, 1] + prior.ranks(v, rows, squared[:, 1])
        return found

    for some, found in in_turns(asked, memo.processes, into):
        costs[some] = found
    answered.keep(_of_turn("parents", turn), told, costs)
    # A model that shares no tensor with the root is far from it, and hangs on it where nothing else is known.
    costs[:, 0] = np.where(np.isfinite(costs[:, 0]), costs[:, 0], FAR)
    keep = (around >= 0) & np.isfinite(costs)
    keep[root] = False
    tail, head = around[keep], np.repeat(np.arange(n), keep.sum(axis=1))
    cost = costs[keep] + prior.told(tail, head)
    ahead = valley(edge_margins(tail, head, cost, root), float(ROOT_ODDS[0] + ROOT_ODDS[1] * np.log(min(n, MOST))))
    return Chances(tail, head, cost - ahead * (tail == root))


def _neighbourhoods(root: int, above: Ints, near: Ints) -> Ints:
    """n x k: the root, the row itself, and the others in rising order; then -1."""
    n = len(above)
    others = np.concatenate([above, near], axis=1)
    others[(others == root) | (others == np.arange(n)[:, None]) | (others < 0)] = n
    others.sort(axis=1)
    others[:, 1:][others[:, 1:] == others[:, :-1]] = n
    others.sort(axis=1)
    others[others == n] = -1
    return np.concatenate([np.full((n, 1), root), np.arange(n)[:, None], others], axis=1)


def _blocks(family: Family, neighbourhoods: Iterable[Ints]) -> list[Floats]:
    """k x k squared distances of each, every pair measured once."""
    n = len(family)
    wanted = []
    for rows in neighbourhoods:
        a, b = np.triu_indices(len(rows), 1)
        wanted.append((rows, a, b, np.minimum(rows[a], rows[b]) * n + np.maximum(rows[a], rows[b])))
    pairs, back = np.unique(np.concatenate([keys for *_, keys in wanted]), return_inverse=True)
    values = squared_distances(family, pairs // n, pairs % n)[0][back]
    result, at = [], 0
    for rows, a, b, keys in wanted:
        squared = np.zeros((len(rows), len(rows)))
        squared[a, b] = squared[b, a] = values[at : at + len(keys)]
        at += len(keys)
        result.append(told_apart(family.take(rows), squared) if (squared[a, b] <= 0).any() else squared)
    return result


def _costs(squared: Floats) -> Floats:
    """k x k costs of edges in a neighbourhood whose first row is the root."""
    k = len(squared)
    distances = floored(squared)
    if k < 3 or not np.isfinite(distances).all():
        nothing = np.zeros((k, k))
        return parent_costs(distances, 0, nothing, nothing, 0.0, SLANT)
    found = regress(distances, 0)
    odds = either_way(edge_log_odds(found, distances, 0), found, distances, 0)
    return parent_costs(distances, 0, odds, adjacency(distances), 0.0, SLANT)
