"""Lines of descent of whole trees as columns: where each node hangs, how deep, and its path from the root."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Descent", "descent"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Descent:
    """The n nodes of a forest, by rising id."""

    nodes: Ints
    """n ids, models and inferred ancestors."""
    tops: Ints
    """n: which of the nodes is each one's root, itself for a root."""
    depths: Ints
    """n: edges between root and node."""
    ends: Ints
    """n + 1: the path of node i is `steps[ends[i] : ends[i + 1]]`, root first and itself last."""
    steps: Ints
    """The ids of all paths, one path after the other: no list a node."""


def descent(members: Collection[int], parent: Mapping[int, int]) -> Descent:
    """The lines of descent of `members` and all nodes of `parent`, child -> parent. Raises ValueError for a circle."""
    children, parents = np.fromiter(parent, np.int64, len(parent)), np.fromiter(parent.values(), np.int64, len(parent))
    nodes = np.unique(np.concatenate([np.fromiter(members, np.int64, len(members)), children, parents]))
    if (children == parents).any():
        raise ValueError("a circle among the parents of a tree")
    above = np.arange(len(nodes))
    above[np.searchsorted(nodes, children)] = np.searchsorted(nodes, parents)
    depths, tops = _depths(above)
    ends = np.concatenate([[0], np.cumsum(depths + 1)])
    steps = np.empty(ends[-1], np.int64)
    # All paths are filled at once from their ends: as many rounds as the deepest has steps.
    at, place = np.arange(len(nodes)), ends[1:] - 1
    while at.size:
        steps[place] = nodes[at]
        deeper = above[at] != at
        at, place = above[at[deeper]], place[deeper] - 1
    return Descent(nodes, tops, depths, ends, steps)


def _depths(above: Ints) -> tuple[Ints, Ints]:
    """(depth, root) of each node, from the node above it (itself for a root): by steps that double."""
    top, depths = above, (above != np.arange(len(above))).astype(np.int64)
    for _ in range(len(above).bit_length()):
        if not depths[top].any():
            return depths, top
        depths, top = depths + depths[top], top[top]
    if depths[top].any():
        raise ValueError("a circle among the parents of a tree")
    return depths, top
