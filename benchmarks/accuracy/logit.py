"""A conditional logit: which of a problem's alternatives is the true one, by a weighted sum of their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

__all__ = ["ASTRAY", "Choice", "fit", "log_loss", "rank"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One problem."""

    family: str
    """What is left out together in cross-validation."""
    kind: str
    """Problems of a kind share their weight in the fit as the root of their number: many alike tell little more."""
    features: NDArray[np.float64]
    """R x F, of R alternatives."""
    offset: NDArray[np.float64]
    """R: log-odds that are not fitted."""
    true: int


ASTRAY: Final = 0.02
"""Share of problems that nothing measured decides: one whose every sign is wrong must not turn the rest around."""


def fit(choices: Sequence[Choice], ridge: float) -> NDArray[np.float64]:
    """Weights (F, none negative) of least mean loss plus `ridge` times their squared length.

    McFadden 1974, with a share ASTRAY of problems decided by lot. Features are log-likelihoods, which never speak
    against themselves; hence no negative weight.
    """
    count = Counter(choice.kind for choice in choices)
    share = np.array([count[choice.kind] ** -0.5 for choice in choices])
    share /= share.sum()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total, slope = ridge * float(weights @ weights), 2 * ridge * weights
        for choice, part in zip(choices, share, strict=True):
            score = choice.features @ weights + choice.offset
            chance = np.exp(score - logsumexp(score))
            lot = ASTRAY / len(chance)
            robust = lot + (1 - ASTRAY) * chance[choice.true]
            total -= part * float(np.log(robust))
            towards = choice.features[choice.true] - chance @ choice.features
            slope = slope - part * (1 - lot / robust) * towards
        return total, slope

    start = np.full(choices[0].features.shape[1], 0.5)
    return np.asarray(minimize(loss, start, jac=True, bounds=[(0.0, None)] * len(start)).x)


def log_loss(choice: Choice, weights: NDArray[np.float64]) -> float:
    """-log of the probability that the true alternative gets."""
    score = choice.features @ weights + choice.offset
    return float(logsumexp(score) - score[choice.true])


def rank(choice: Choice, weights: NDArray[np.float64]) -> int:
    """1 when no alternative scores higher than the true one."""
    score = choice.features @ weights + choice.offset
    return 1 + int((score > score[choice.true]).sum())
