"""How much likelier a parent the root is than another model: at most what was fitted, less where a component shows it.

What a root has ahead (`indexer.ancestry.ROOT_ODDS`) makes up for drift: its children learn alike, so that siblings look
like parents of one another. Where they do not, a component says so: with no head start at all its models fall into two
groups, those that prefer the root by far, its children, and those that prefer another model by far. The line between
them is then drawn in the middle. In a deep tree whoever is a little in doubt would otherwise go to the root.

The search for that line begins at the fitted one and only goes down. Where siblings drift, the root's own children are
in doubt, the middle lies beyond the fitted line, and nothing changes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["edge_margins", "head_start"]

FEWEST: Final = 8
"""Models on either side: the medians of fewer tell nothing."""
GRAIN: Final = 0.5
"""Told to this, so that in a large component one more model seldom changes what is said of all others."""


def head_start(margins: NDArray[np.float64], most: float) -> float:
    """What a component's root has ahead, of 0 to `most`.

    `margins` are those of all other models: the cost of the likeliest parent but the root less that of the root, where
    it has no head start. The two groups are told by their medians, which a few odd models hardly move.
    """
    margins = margins[np.isfinite(margins)]
    line = most
    while True:
        others = margins < -line
        if min(int(others.sum()), int((~others).sum())) < FEWEST:
            break
        middle = -(float(np.median(margins[others])) + float(np.median(margins[~others]))) / 2
        if middle >= line:
            break
        line = middle
    return most if line == most else min(most, max(0.0, GRAIN * round(line / GRAIN)))


def edge_margins(
    tail: NDArray[np.int64], head: NDArray[np.int64], cost: NDArray[np.float64], root: int
) -> NDArray[np.float64]:
    """Of each model that the root has an edge to, how much more its cheapest other edge costs; infinite without any."""
    by_root = tail == root
    others = np.full(int(head.max(initial=-1)) + 1, np.inf)
    np.minimum.at(others, head[~by_root], cost[~by_root])
    return np.asarray(others[head[by_root]] - cost[by_root])
