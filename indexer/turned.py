"""Where upload dates would have the root of a tree: turned to it, only the edges on the way there change direction.

The root of a large component is judged on its most central members (`indexer.large`). At the end of a long run of
checkpoints it is not among them; of the tree that was found from another root all edges on the way there then point
from later models to earlier ones, which dates tell at a glance.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from indexer.metadata import order_log_odds
from indexer.roots import parents_first

__all__ = ["CLEARLY", "dated_root"]

CLEARLY: Final = 20.0
"""Log-odds of dates beyond which a root is given up: those of four edges. One that was uploaded again long after
has one at most."""


def dated_root(parent: NDArray[np.int64], created: NDArray[np.float64]) -> int:
    """The root that upload dates speak for, where they speak against this tree's by more than CLEARLY; else this one.

    `parent` is n, -1 for the one root; `created` n: seconds since 1970, NaN where unknown. Of several as likely the
    first row.
    """
    below = np.flatnonzero(parent >= 0)
    odds = np.zeros(len(parent))
    odds[below] = order_log_odds((created[below] - created[parent[below]]) / 86_400)
    gained = _gained(parent, parents_first(parent), odds)
    best = int(np.argmax(gained))
    return best if gained[best] > CLEARLY else int(np.flatnonzero(parent < 0)[0])


@njit(cache=True, nogil=True)
def _gained(parent: NDArray[np.int64], order: NDArray[np.int64], odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """n: log-odds for each as the root in place of this one; `odds` are those of the edge above each."""
    gained = np.zeros(parent.size)
    for row in order:
        if parent[row] >= 0:
            gained[row] = gained[parent[row]] - odds[row]
    return gained
