"""A few models around one node of a tree: is it one of them, or a point between them that no model is?

Squared L2 adds up along a path, so what a and b have learned together since x is

    G_x(a, b) = (|x - a|^2 + |x - b|^2 - |a - b|^2) / 2,

the inner product of a - x and b - x. For children of x it is about nothing. Around a point h that no model is, it is
|h - x|^2 for every pair, seen from each of the models x. Training bends this: siblings drift together. But drift makes
the *cosines* of pairs alike, a point makes what pairs share alike; and how much siblings drift, others tell.

So the cosines are explained in both ways, and the likelihoods compared. Constants: docs/accuracy.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOLD", "Drift", "Seen", "explain", "seen_from", "shared_cosines"]

NOISE: Final = 0.06
"""Standard deviation of a cosine about what explains it, and the most that cosines may depart from a point, as root
mean square."""
TOLD: Final = 0.1
"""Standard deviation of a drift about that of other siblings, and of the cosine of a step and the one after it."""
_GRID: Final = np.linspace(-0.2, 1.0, 121)
_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class Drift:
    """The cosine that siblings share by drift, before any of these was seen: normal."""

    mean: float = 0.05
    deviation: float = 0.2
    """These two where no other siblings tell."""


@dataclass(frozen=True, slots=True)
class Seen:
    """k models as one more sees them, at right angles to its weights."""

    reach: NDArray[np.float64]
    """k: squared length of what each has learned since."""
    cosine: NDArray[np.float64]
    """k x k; NaN where a distance was not measured."""

    def take(self, at: NDArray[np.int64]) -> Seen:
        return Seen(self.reach[at], self.cosine[np.ix_(at, at)])


def seen_from(squared: NDArray[np.float64], sizes: NDArray[np.float64], x: int, rows: NDArray[np.int64]) -> Seen:
    """`rows` (k) seen from x; `squared` is n x n, `sizes` n squared norms, NaN where a node has no weights.

    Weight decay takes the same part of x from all children, which tells of no common ancestor: what they lost along x
    is left out. <a - x, x> follows from squared norms.
    """
    reach = squared[x, rows]
    # Damaged weights may be as large as floats are; what overflows is not finite, and no star then.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        together = (reach[:, None] + reach - squared[np.ix_(rows, rows)]) / 2
        if sizes[x] > 0:
            along = np.nan_to_num((sizes[rows] - sizes[x] - reach) / 2)
            together = together - np.outer(along, along) / sizes[x]
            # All of it along x: nothing was learned, and the cosines are not to be divided by nothing.
            reach = np.maximum(reach - along**2 / sizes[x], 1e-9 * reach)
        scale = np.sqrt(reach)[:, None] * np.sqrt(reach)
        cosine = np.where(np.isfinite(together) & (scale > 0), np.clip(together / scale, -1.0, 1.0), np.nan)
    return Seen(reach, cosine)


def shared_cosines(cosine: NDArray[np.float64]) -> float | None:
    """Median of the cosines of all pairs that were measured; None where there is none."""
    pairs = cosine[np.triu_indices(len(cosine), 1)]
    pairs = pairs[np.isfinite(pairs)]
    return float(np.median(pairs)) if pairs.size else None


def explain(seen: Seen, drift: Drift, above: int | None = None) -> tuple[float, float]:
    """(log-likelihood ratio of a point between x and the models against x being their middle, median cosine that the
    point explains); minus infinity where a distance was not measured or no point fits.

    `above` is the place of the model that would be x's parent, were x the middle: what x has learned since that is a
    step of its own, which its children's steps follow in some measure, all alike.
    """
    k = len(seen.reach)
    a, b = np.triu_indices(k, 1)
    cosine, reach = seen.cosine[a, b], seen.reach
    if not cosine.size or not np.isfinite(cosine).all():
        return -np.inf, 0.0
    # There are more pairs than models: they are no independent witnesses.
    weight = min(1.0, 2 / (k - 1)) / NOISE**2
    nearest = float(reach.min())
    height = (np.arange(_STEPS) + 0.5) / _STEPS * nearest
    part = height / (np.sqrt(reach[a]) * np.sqrt(reach[b]))[:, None]
    alone = np.sqrt((1 - height / reach[a][:, None]) * (1 - height / reach[b][:, None]))
    misfit = (cosine[:, None] - part - drift.mean * alone) ** 2
    best = int(np.argmin(misfit.sum(axis=0)))
    if float(misfit[:, best].mean()) > NOISE**2:
        return -np.inf, 0.0
    point = _mean_exp(-0.5 * weight * misfit.sum(axis=0))
    up = (a == above) | (b == above)
    middle = _middle(cosine[~up], weight, drift) + _middle(cosine[up], weight, Drift(0.0, TOLD))
    return point - middle, float(np.median(part[:, best]))


def _middle(cosine: NDArray[np.float64], weight: float, drift: Drift) -> float:
    """Log-likelihood of pairs around a middle: one cosine for all, which is drawn from `drift`."""
    prior = -0.5 * ((_GRID - drift.mean) / drift.deviation) ** 2
    return _mean_exp(prior - 0.5 * weight * ((cosine[:, None] - _GRID) ** 2).sum(axis=0)) - _mean_exp(prior)


def _mean_exp(logs: NDArray[np.float64]) -> float:
    return float(np.logaddexp.reduce(logs) - np.log(len(logs)))
