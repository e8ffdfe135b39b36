"""How much likelier a parent the root is than another model: at most what was fitted, less where a component shows it.

What a root has ahead (`indexer.ancestry.ROOT_ODDS`) makes up for drift: its children learn alike, so that siblings look
like parents of one another. Where they do not, a component says so: with no head start at all its models fall into two
groups, those that prefer the root by far, its children, and those that prefer another model by far. The line between
them is then drawn in the middle. In a deep tree whoever is a little in doubt would otherwise go to the root.

The search for that line begins at the fitted one and only goes down. Where siblings drift, the root's own children are
in doubt, the middle lies beyond the fitted line, and nothing changes.

In a large component the two groups show themselves, and so does what lies between them (`valley`). There the root's
children may be one in a hundred, and of all the others more are a little in doubt than it has children: then no median
tells where these end, but numbers do, which fall towards the root's children and rise again at them. Of tens of
thousands of models so many are in doubt that nothing is seen to rise: where numbers only fall, the root has nothing
ahead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["edge_margins", "head_start", "valley"]

FEWEST: Final = 8
"""Models on either side: the medians of fewer tell nothing."""
WINDOW: Final = 1.5
"""Models whose margins lie within this of a line are counted at it."""
RISE: Final = 1.5
"""Times as many must be found on the root's side of a valley as in it, and more by so many standard deviations of their
number as:"""
CLEAR: Final = 2.0
FARTHEST: Final = 1000.0
"""No margin by which a root is preferred is looked at beyond this: what is damaged may cost any amount."""
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


def valley(margins: NDArray[np.float64], most: float) -> float:
    """As `head_start`, where fewest margins lie between those of the root's children and all others.

    Where drift puts the root's children in doubt they lie amid the others' margins, or next to them: there is no valley
    between the two then, or none on this side of `most`.
    """
    told = np.sort(np.minimum(margins[np.isfinite(margins)], FARTHEST))
    lines = np.arange(0.0, most, GRAIN)
    # At each line, and at all that the root's own children may be found at.
    ahead = -np.arange(0.0, most + GRAIN, GRAIN)
    beyond = np.arange(GRAIN, max(GRAIN, float(told[-1]) if told.size else 0.0) + GRAIN, GRAIN)
    places = np.concatenate([ahead[::-1], beyond])
    counts = np.searchsorted(told, places + WINDOW, side="right") - np.searchsorted(told, places - WINDOW)
    peaks = np.maximum.accumulate(counts[::-1])[::-1]
    at = np.searchsorted(places, -lines)
    here, peak = counts[at], peaks[at]
    real = (peak >= FEWEST) & _clear(peak, here)
    if not real.any():
        # Where numbers only fall, to where neither is likelier, those in doubt are the last of all others.
        falls = bool(lines.size) and counts[0] == peaks[0] and peak[0] >= FEWEST and _clear(counts[0], here[0])
        return 0.0 if falls else head_start(margins, most)
    fewest = np.flatnonzero(real & (here == here[real].min()))
    # Of several as empty the one that is nearest to what was fitted.
    return float(lines[fewest[-1]])


def _clear(many: NDArray[np.int64], few: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Are so many clearly more than so few?"""
    return np.asarray((many >= RISE * few) & (many - few >= CLEAR * np.sqrt(many)))


def edge_margins(
    tail: NDArray[np.int64], head: NDArray[np.int64], cost: NDArray[np.float64], root: int
) -> NDArray[np.float64]:
    """Of each model that the root has an edge to, how much more its cheapest other edge costs; infinite without any."""
    by_root = tail == root
    others = np.full(int(head.max(initial=-1)) + 1, np.inf)
    np.minimum.at(others, head[~by_root], cost[~by_root])
    return np.asarray(others[head[by_root]] - cost[by_root])
