"""Which of a few models around a point that no model is came first, where the tree's root is one of them.

What the tree has for its root may be a child of the point: where a model is missing, its children look old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

__all__ = ["Direction", "age_log_odds", "eldest", "not_only_eldest"]

FAR: Final = 2.0
"""Log-odds that a model which is not the nearest to a missing root was not taken for it."""

Direction = Callable[[int, int], float]
"""Log-odds for u -> v against v -> u."""


def age_log_odds(candidates: Sequence[int], models: Sequence[int], direction: Direction) -> dict[int, float]:
    """Candidate -> log-odds by the cues of direction that it is the ancestor of all other models, against none of them
    being it: between siblings cues point either way."""
    return {
        y: sum(float(np.log(2.0) - np.logaddexp(0.0, -direction(y, z))) for z in models if z != y) for y in candidates
    }


def not_only_eldest(ages: Mapping[int, float], root: int) -> float:
    """Log-likelihood ratio of the cues for a point beside `root`, against `root` being the parent of all others."""
    return (
        float(np.logaddexp.reduce([prior + ages.get(row, 0.0) for row, prior in _priors(ages, root).items()]))
        - (ages[root])
    )


def eldest(ages: Mapping[int, float], root: int, nearest_of: int | None) -> tuple[int, float]:
    """(the point's parent, its log-odds against the next likely): `root`, another, or -1 for none of them.

    Where the true root is out of sight a child of the point is taken for it, the nearest. `nearest_of` models `root` is
    the nearest to the point, which it would be by chance else; None where it is not.
    """
    odds = {row: prior + ages.get(row, 0.0) for row, prior in _priors(ages, root).items()}
    odds[root] -= float(np.log(1.0 + nearest_of)) if nearest_of is not None else -FAR
    first, second = sorted(odds, key=lambda row: (-odds[row], row))[:2]
    return first, odds[first] - odds[second]


def _priors(ages: Mapping[int, float], root: int) -> dict[int, float]:
    """Logarithms of probabilities that each came first before cues are seen: 1/2 the root, 1/4 one of the others, 1/4
    none of them (-1)."""
    others = {row: -float(np.log(4.0 * (len(ages) - 1))) for row in ages if row != root}
    return {root: -float(np.log(2.0)), -1: -float(np.log(4.0)), **others}
