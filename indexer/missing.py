"""Ancestors that are not in the collection: inner nodes of a tree, inferred from squared distances alone.

Around each model p, sets of its children are looked at, largest first. A set and p make a star when a point between
them explains its distances better than any of them in the middle (`indexer.stars`). Three children at least: a point
between three models always exists, one between four is a coincidence or an ancestor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform

from indexer.eldest import Direction, age_log_odds, eldest, not_only_eldest
from indexer.roots import parents_first
from indexer.stars import TOLD, Drift, Seen, explain, seen_from, shared_cosines

__all__ = ["Completed", "infer"]

PRIOR: Final = -3.0
"""Log-odds of a missing ancestor before distances are seen."""
LEAST: Final = 3
"""Children of a model that meet in a point, at least."""

_SEEN: Final = 32
"""Of more models around a node, the nearest are looked at."""
_WIDEST: Final = 1500
"""Children of one model that are looked at; of more, none."""
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Completed:
    """A tree of n models and k inferred nodes, which are rows n to n + k - 1."""

    parent: NDArray[np.int64]
    """n + k; -1 for the root."""
    squared: NDArray[np.float64]
    """(n + k) x (n + k): squared distances; those of inferred nodes follow from the models'."""
    log_odds: NDArray[np.float64]
    """k: of the node against what explains the distances without it."""
    shared: NDArray[np.float64]
    """k: median cosine of what its children have learned since the model that they were seen from."""
    seen_from: NDArray[np.int64]
    """k: that model."""
    heading: NDArray[np.float64]
    """k: log-odds of the direction of the edge between it and the node; infinite below a model that is no root."""


@dataclass(frozen=True, slots=True)
class _Star:
    """Children of p that meet in a point."""

    seen_from: int
    members: NDArray[np.int64]
    height: float
    """Squared distance from p to the point."""
    alone: NDArray[np.float64]
    """Squared distance from the point to each member."""
    log_odds: float
    shared: float
    top: int
    """Parent of the point: p; or, where p was taken for the root and is none, the member that is, or -1 for none."""
    heading: float
    """Log-odds of `top`."""
    beyond: Mapping[int, int]
    """Other children of p, each with the member on whose way it lies."""


@dataclass(frozen=True, slots=True)
class _Tree:
    squared: NDArray[np.float64]
    parent: NDArray[np.int64]
    sizes: NDArray[np.float64]
    """Squared norms, NaN for inferred nodes."""
    direction: Direction
    fixed: NDArray[np.bool_]
    """Which edges stay as they are."""


def infer(
    squared: NDArray[np.float64],
    parent: NDArray[np.int64],
    sizes: NDArray[np.float64],
    direction: Direction,
    fixed: NDArray[np.bool_] | None = None,
) -> Completed:
    """Put inferred nodes into the tree `parent` (n; -1 for the root) of models at `squared` distances (n x n).

    `sizes` are the models' squared norms, `direction(u, v)` is log-odds for u -> v against v -> u. Models of which
    `fixed` (n) is true keep their parent. Distances that were not measured are infinite.
    """
    tree = _Tree(squared, parent, sizes, direction, np.zeros(len(parent), bool) if fixed is None else fixed)
    found: list[_Star] = []
    for _ in range(_ROUNDS):
        # An inferred node may join a star itself, and a new root shows the tree from another side.
        stars = _stars(tree)
        for star in stars:
            tree = _insert(tree, star)
        found += stars
        if not stars:
            break
    return Completed(
        tree.parent,
        tree.squared,
        np.array([star.log_odds for star in found]),
        np.array([star.shared for star in found]),
        np.array([star.seen_from for star in found], np.int64),
        np.array([star.heading for star in found]),
    )


def _stars(tree: _Tree) -> list[_Star]:
    """Disjoint stars; at most one that moves the root."""
    loose = _loosened(tree)
    fans = {int(p): _fan(tree, loose, int(p)) for p in np.unique(loose[loose >= 0]) if not np.isnan(tree.sizes[p])}
    fans = {p: fan for p, fan in fans.items() if 2 <= fan.size <= _WIDEST}
    cosines = {p: shared_cosines(seen_from(tree.squared, tree.sizes, p, fan[:_SEEN]).cosine) for p, fan in fans.items()}
    stars: list[_Star] = []
    for p, fan in fans.items():
        told = [cosine for other, cosine in cosines.items() if other != p and cosine is not None]
        drift = Drift(max(0.0, float(np.median(told))), TOLD) if len(told) > 1 else Drift()
        beyond = _beyond(tree.squared, p, fan)
        fan = np.array([child for child in fan if int(child) not in beyond], np.int64)
        seen = seen_from(tree.squared, tree.sizes, p, fan)
        taken = np.zeros(fan.size, bool)
        for at in _groups(seen):
            if not taken[at].any() and (star := _star(tree, p, fan, seen, at, drift, beyond)) is not None:
                if star.top != p and any(other.top != other.seen_from for other in stars):
                    continue
                stars.append(star)
                taken[at] = True
    return stars


def _fan(tree: _Tree, loose: NDArray[np.int64], p: int) -> NDArray[np.int64]:
    """Children of p, nearest first."""
    children = np.flatnonzero(loose == p)
    reach = tree.squared[p, children]
    order = np.argsort(reach, kind="stable")
    return np.asarray(children[order][np.isfinite(reach[order]) & (reach[order] > 0)])


def _loosened(tree: _Tree) -> NDArray[np.int64]:
    """n: the tree with children moved up from parents that have gone part of the way to them alone.

    Among children of one h that is missing the cheapest tree may hang some from another; in truth they are siblings.
    """
    loose, distances = tree.parent.copy(), tree.squared
    for c in parents_first(tree.parent):
        p = int(loose[c])
        while p >= 0 and loose[p] >= 0 and not tree.fixed[c]:
            up = int(loose[p])
            with np.errstate(invalid="ignore"):
                # No number where two were not measured, and then no word against the parent.
                pendant = (distances[p, c] + distances[p, up] - distances[up, c]) / 2
                told = pendant > TOLD * np.sqrt(distances[p, c]) * np.sqrt(distances[p, up])
            if not told:
                break
            p = up
        loose[c] = p
    return loose


def _beyond(squared: NDArray[np.float64], p: int, fan: NDArray[np.int64]) -> dict[int, int]:
    """Child -> the nearer child of p that lies between the two: from a wrong root they look like siblings."""
    result: dict[int, int] = {}
    for at, far in enumerate(fan):
        near = np.array([child for child in fan[:at] if int(child) not in result], np.int64)
        pendant = (squared[p, near] + squared[near, far] - squared[p, far]) / 2
        between = near[
            np.isfinite(pendant) & (pendant < TOLD * np.sqrt(squared[p, near]) * np.sqrt(squared[near, far]))
        ]
        if between.size:
            result[int(far)] = int(between[0])
    return result


def _groups(seen: Seen) -> Iterator[NDArray[np.int64]]:
    """Places of children that share more with each other than with the rest, largest sets first."""
    if len(seen.reach) < LEAST:
        return
    cosine = np.nan_to_num(seen.cosine)
    apart = cosine.max() - cosine
    np.fill_diagonal(apart, 0.0)
    ahead = [to_tree(linkage(squareform(apart, checks=False), "average"))]
    while ahead:
        node = ahead.pop(0)
        if node.count >= LEAST:
            yield np.sort(np.array(node.pre_order(), np.int64))
            ahead += [node.get_left(), node.get_right()]


def _star(
    tree: _Tree,
    p: int,
    fan: NDArray[np.int64],
    seen: Seen,
    at: NDArray[np.int64],
    drift: Drift,
    beyond: Mapping[int, int],
) -> _Star | None:
    """The star of p and the children at these places of its fan, if they are one."""
    members = fan[at]
    moved = tree.parent[members] != p
    if tree.fixed[members].any() or not np.isin(tree.parent[members[moved]], members).all():
        return None
    near = at[:_SEEN]
    rest = np.setdiff1d(np.arange(fan.size), at)[:_SEEN]
    ratio, shared = explain(seen.take(near), _told(seen.cosine, near, rest, drift))
    if not ratio > 0:
        return None
    log_odds = PRIOR + ratio
    height, alone = _lengths(tree.squared, p, members)
    top, heading = p, np.inf
    if tree.parent[p] < 0:
        models = [int(row) for row in (p, *fan[near]) if not np.isnan(tree.sizes[row])]
        # Of little training a leaf looks old; a root has children.
        able = [row for row in models if row == p or (tree.parent == row).any()]
        ages = age_log_odds(able, models, tree.direction)
        log_odds += not_only_eldest(ages, p)
        top, heading = eldest(ages, p, len(members) if height <= alone.min() else None)
    for x in map(int, fan[near]):
        if log_odds > 0 and not np.isnan(tree.sizes[x]):
            log_odds = min(log_odds, PRIOR + _seen_from_member(tree, p, x, fan[near], drift))
    if not log_odds > 0:
        return None
    behind = {child: member for child, member in beyond.items() if member in members}
    return _Star(p, members, height, alone, log_odds, shared, top, heading, behind)


def _told(cosine: NDArray[np.float64], at: NDArray[np.int64], rest: NDArray[np.int64], drift: Drift) -> Drift:
    """The drift of these children as the rest of the fan tells it; `drift` where there is no rest."""
    if not rest.size:
        return drift
    inside = np.ix_(rest, rest)
    pairs = np.append(cosine[np.ix_(at, rest)].ravel(), cosine[inside][np.triu_indices(rest.size, 1)])
    pairs = pairs[np.isfinite(pairs)]
    return Drift(max(0.0, float(np.median(pairs))), TOLD) if pairs.size else drift


def _seen_from_member(tree: _Tree, p: int, x: int, members: NDArray[np.int64], drift: Drift) -> float:
    """Log-likelihood ratio of the point against x being the middle: a child of p, and the parent of other members."""
    around = np.append(p, members[members != x])
    own = np.flatnonzero((tree.parent == x) & np.isfinite(tree.squared[x]) & (tree.squared[x] > 0))
    own = np.setdiff1d(own, around)[:_SEEN]
    seen = seen_from(tree.squared, tree.sizes, x, np.append(around, own))
    at, rest = np.arange(around.size), np.arange(around.size, around.size + own.size)
    return explain(seen.take(at), _told(seen.cosine, at, rest, drift), above=0)[0]


def _lengths(distances: NDArray[np.float64], p: int, members: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Squared distances from the point to p, and to each member: the whole way, what was shrunk included."""
    reach = distances[p, members]
    together = (reach[:, None] + reach - distances[np.ix_(members, members)]) / 2
    height = float(np.median(together[np.triu_indices(len(members), 1)]))
    return height, np.maximum(reach - (together.sum(axis=1) - reach) / (len(members) - 1), 0.0)


def _insert(tree: _Tree, star: _Star) -> _Tree:
    """The tree with one more node, the last: the point of the star."""
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
    parent = np.append(tree.parent, star.top)
    parent[around] = node
    if star.top >= 0:
        parent[star.top] = -1 if star.top != p else tree.parent[p]
    for child, member in star.beyond.items():
        parent[child] = parent[child] if tree.fixed[child] else member
    return _Tree(squared, parent, np.append(tree.sizes, np.nan), tree.direction, np.append(tree.fixed, False))
