"""Ancestors that are not in the collection: inner nodes of a tree, inferred from squared distances alone.

Squared L2 adds up along a path, so what a and b have learned together since p is

    G_p(a, b) = (|p - a|^2 + |p - b|^2 - |a - b|^2) / 2,

the inner product of a - p and b - p. For children of p it is about nothing. For children of one h that descends from
p and is not there, it is |h - p|^2, *the same for every pair*: they hang from h, a point on the way.

Training bends this. Siblings drift together, but drift grows with how far each of them moved, where h is one point
for all. A child that hardly moved stands for h itself. So a node is inferred only where what is shared is a good part
of what each has learned, alike for all pairs, and where each has learned something alone. With a root and two others
there is one pair, which nothing confirms, so it must share more. Constants: docs/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

__all__ = ["Completed", "infer"]

SHARED: Final = 0.18
"""Least median cosine, over pairs, of what three or more have learned since p; pairs that agree exactly."""
DOUBT: Final = 0.4
"""What a spread of 1 over the pairs (largest minus smallest over largest) adds to it."""
EVEN: Final = 2.0
TELLING: Final = 0.15
"""Where no other children tell how much siblings drift together: the cosines must spread by EVEN times as much, and by
TELLING. Drift makes cosines alike, a common point makes what pairs share alike."""
UNEVEN: Final = 0.45
"""Largest spread."""
PAIR: Final = 0.4
"""Least cosine of two."""
ALONE: Final = 0.15
"""Least part of the way to the others that each of three or more has gone alone: with less, it stands for h."""
PENDANT: Final = 0.1
"""A parent that went so much of the way to its child alone may be a sibling: the child is looked at with its uncles."""
CAUTION: Final = 0.2
"""ALONE for two, and where such a child is among them."""

NEAREST: Final = 1.1
"""The point is above a root that is about as near to it as its nearest child."""
UNDECIDED: Final = 0.5
"""And where the cues of direction give the root no more than this, on average, over those children."""
DECIDED: Final = 2.0
"""Where they give one of those children so much over each other, it is the root, and the point its child."""
ROOTED: Final = 0.3
"""Least cosine there where the root has no other children."""
CENTRE: Final = 0.22
"""Least cosine then, where the children have lost of the root's weights what it would have learned alone."""

_FAINT: Final = 0.15
"""Cosine below which two are not looked at together."""
_WIDEST: Final = 1500
"""Children of one model that are looked at; of more, none."""
_ROUNDS: Final = 3

Direction = Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Completed:
    """A tree of n models and k inferred nodes, which are rows n to n + k - 1."""

    parent: NDArray[np.int64]
    """n + k; -1 for the root."""
    squared: NDArray[np.float64]
    """(n + k) x (n + k): squared distances; those of inferred nodes follow from the models'."""
    shared: NDArray[np.float64]
    """k: median cosine of what its children have learned since the model that they were seen from, less drift."""


@dataclass(frozen=True, slots=True)
class _Star:
    """Children of p that meet in a point."""

    seen_from: int
    members: NDArray[np.int64]
    height: float
    """Squared distance from p to the point."""
    alone: NDArray[np.float64]
    """Squared distance from the point to each member."""
    shared: float
    parent: int
    """p; or, where p was taken for the root and is none, that one of the members that is, or -1 for none."""


@dataclass(frozen=True, slots=True)
class _Tree:
    squared: NDArray[np.float64]
    parent: NDArray[np.int64]
    sizes: NDArray[np.float64]
    """Squared norms, NaN for inferred nodes."""
    direction: Direction


@dataclass(frozen=True, slots=True)
class _Fan:
    """The k children of a model p as p sees them: what each has learned, less what it shrank.

    Weight decay takes the same part of p from all children, which tells of no common ancestor: increments are taken at
    right angles to p.
    """

    p: int
    children: NDArray[np.int64]
    reach: NDArray[np.float64]
    """k: squared length of each increment."""
    together: NDArray[np.float64]
    """k x k: inner products, G_p of the module's docstring; 0 where not measured."""


def infer(
    squared: NDArray[np.float64], parent: NDArray[np.int64], sizes: NDArray[np.float64], direction: Direction
) -> Completed:
    """Put inferred nodes into the tree `parent` (n; -1 for the root) of models at `squared` distances (n x n).

    `sizes` are the models' squared norms, `direction(u, v)` is log-odds for u -> v against v -> u. Distances that were
    not measured are infinite.
    """
    n = len(parent)
    tree = _Tree(squared, parent, sizes, direction)
    shared: list[float] = []
    for _ in range(_ROUNDS):
        # What did not pass before will not pass now, unless an inferred node has joined it.
        stars = [star for star in _stars(tree) if not shared or (star.members >= n).any()]
        for star in stars:
            tree = _insert(tree, star)
            shared.append(star.shared)
        if not stars:
            break
    return Completed(tree.parent, tree.squared, np.array(shared))


def _stars(tree: _Tree) -> list[_Star]:
    """Disjoint sets of children, the largest that pass, that each meet in one point on the way from a model."""
    loose = _loosened(tree.squared, tree.parent)
    stars: list[_Star] = []
    for p in np.unique(loose[loose >= 0]):
        children = np.flatnonzero(loose == p)
        children = children[np.isfinite(tree.squared[p, children])]
        if not 2 <= children.size <= _WIDEST or np.isnan(tree.sizes[p]):
            continue
        fan = _fan(tree, int(p), children)
        waiting = [np.arange(fan.children.size)]
        while waiting:
            at = waiting.pop()
            star = _star(tree, fan, at)
            if star is None:
                waiting += _halves(fan, at)
            elif star.parent == p or all(other.parent == other.seen_from for other in stars):
                stars.append(star)
    return stars


def _loosened(distances: NDArray[np.float64], parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """n: the tree with children moved up from parents that have gone part of the way to them alone.

    Among children of one h that is missing the cheapest tree may hang some from another; in truth they are siblings.
    """
    loose = parent.copy()
    for c in _parents_first(parent):
        p = int(loose[c])
        while p >= 0 and loose[p] >= 0:
            pendant = (distances[p, c] + distances[p, loose[p]] - distances[loose[p], c]) / 2
            if not pendant >= PENDANT * distances[p, c] > 0:
                break
            p = int(loose[p])
        loose[c] = p
    return loose


def _parents_first(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    depth = np.zeros(len(parent), np.int64)
    current = parent.copy()
    while (inside := current >= 0).any():
        depth += inside
        current = np.where(inside, parent[current], -1)
    return np.argsort(depth, kind="stable")


def _fan(tree: _Tree, p: int, children: NDArray[np.int64]) -> _Fan:
    reach, together = _seen_from(tree.squared, p, children)
    if tree.sizes[p] > 0:
        # <c - p, p> from squared norms alone; inferred nodes have none.
        along = np.nan_to_num(tree.sizes[children] - tree.sizes[p] - reach) / 2
        together = np.where(together != 0, together - np.outer(along, along) / tree.sizes[p], 0.0)
        reach = reach - along**2 / tree.sizes[p]
    kept = reach > 0
    return _Fan(p, children[kept], reach[kept], together[np.ix_(kept, kept)])


def _seen_from(
    squared: NDArray[np.float64], p: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reach = squared[p, rows]
    together = (reach[:, None] + reach - squared[np.ix_(rows, rows)]) / 2
    return reach, np.where(np.isfinite(together), together, 0.0)


def _star(tree: _Tree, fan: _Fan, at: NDArray[np.int64]) -> _Star | None:
    """The point in which these children (positions) meet, if there is one."""
    p, members, k = fan.p, fan.children[at], len(at)
    if k < 2:
        return None
    moved = tree.parent[members] != p
    if not np.isin(tree.parent[members[moved]], members).all():
        return None
    reach, together = fan.reach[at], fan.together[np.ix_(at, at)]
    a, b = np.triu_indices(k, 1)
    pairs = together[a, b]
    if pairs.min() <= 0:
        return None
    cosines = pairs / np.sqrt(reach[a] * reach[b])
    uneven, height, alone = _spread(pairs), float(np.median(pairs)), _alone(reach, together)
    drift = _drift(fan, at)
    shared = float(np.median(cosines)) - (drift or 0.0)
    top = _top(tree, p, members, height, alone)
    least = PAIR if k == 2 else SHARED + DOUBT * uneven
    if top != p and drift is not None and _lost(tree, p, members, height):
        least = min(least, CENTRE)
    if drift is None and top == p and (k == 2 or not EVEN * uneven <= _spread(cosines) >= TELLING):
        return None
    if drift is None and top != p:
        least = max(least, ROOTED)
    if uneven > UNEVEN or shared < least:
        return None
    between = (reach[:, None] + reach - 2 * together)[~np.eye(k, dtype=bool)].reshape(k, k - 1)
    if (alone < (CAUTION if k == 2 or moved.any() else ALONE) * np.median(between, axis=1)).any():
        return None
    # Lengths are those of the whole way, what was shrunk included.
    reach, together = _seen_from(tree.squared, p, members)
    return _Star(p, members, float(np.median(together[a, b])), np.maximum(_alone(reach, together), 0.0), shared, top)


def _alone(reach: NDArray[np.float64], together: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each has learned and shares with no other, by the mean over the others."""
    return np.asarray(reach - (together.sum(axis=1) - np.diag(together)) / (len(reach) - 1))


def _top(tree: _Tree, p: int, members: NDArray[np.int64], height: float, alone: NDArray[np.float64]) -> int:
    """The parent of the point: p; or, where p was taken for the root though it is a child of it, -1 for none.

    Where the root is missing, its nearest child is taken for it. Or a member is the root after all: the cues say so.
    """
    if tree.parent[p] >= 0 or height > NEAREST * alone.min():
        return p
    models = members[np.isfinite(tree.sizes[members])]
    if not models.size or np.mean([tree.direction(p, int(m)) for m in models]) > UNDECIDED:
        return p
    for m in models:
        if min(tree.direction(int(m), int(other)) for other in [p, *models] if other != m) >= DECIDED:
            return int(m)
    return -1


def _lost(tree: _Tree, p: int, members: NDArray[np.int64], height: float) -> bool:
    """Has each member lost of p's weights what p would have learned alone? The origin is an outgroup to all."""
    with np.errstate(invalid="ignore"):
        lost = (tree.sizes[p] + tree.squared[p, members] - tree.sizes[members]) / 2
        return bool(((lost >= 0.5 * height) & (lost <= 2 * height)).all())


def _spread(values: NDArray[np.float64]) -> float:
    return float((values.max() - values.min()) / values.max())


def _drift(fan: _Fan, at: NDArray[np.int64]) -> float | None:
    """Median cosine of what members and other children of p have learned: what siblings here share by drift."""
    rest = np.setdiff1d(np.arange(fan.children.size), at)
    if not rest.size:
        return None
    cosines = fan.together[np.ix_(at, rest)] / np.sqrt(fan.reach[at][:, None] * fan.reach[rest])
    return max(0.0, float(np.median(cosines)))


def _halves(fan: _Fan, at: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The children parted where they have least together: first those that share nothing, then by average linkage."""
    if len(at) <= 2:
        return []
    reach, together = fan.reach[at], fan.together[np.ix_(at, at)]
    faint = together < _FAINT * np.sqrt(reach[:, None] * reach)
    count, label = connected_components(~faint, directed=False)
    if count == 1:
        apart = together.max() - together
        np.fill_diagonal(apart, 0.0)
        label = fcluster(linkage(squareform(apart, checks=False), "average"), 2, "maxclust")
    return [at[label == each] for each in np.unique(label)]


def _insert(tree: _Tree, star: _Star) -> _Tree:
    """The tree with one more node, the last: the point of the star, as child of p or as its parent."""
    p, node = star.seen_from, len(tree.parent)
    # From the point to any other: the way from each of its neighbours, less the neighbour's own part. That is too short
    # for the one beyond which the other lies, so the smallest does not count, nor, for noise, does the largest.
    around = np.append(star.members, p)
    ways = tree.squared[around] - np.append(star.alone, star.height)[:, None]
    away = np.maximum(np.sort(ways, axis=0)[-2], 0.0)
    away[star.members] = star.alone
    away[p] = star.height
    squared = np.zeros((node + 1, node + 1))
    squared[:node, :node] = tree.squared
    squared[node, :node] = squared[:node, node] = away
    parent = np.append(tree.parent, star.parent)
    parent[around] = node
    if star.parent >= 0:
        parent[star.parent] = -1 if tree.parent[p] < 0 else tree.parent[p]
    return _Tree(squared, parent, np.append(tree.sizes, np.nan), tree.direction)
