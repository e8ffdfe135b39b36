"""What points from parent to child: each cue is a small pure function of one pair, listed in one table.

A cue returns a number that is positive when a -> b looks like parent -> child, negative for the reverse. Its weight
turns it into log-odds; `LIMITS` keeps one cue from shouting down the rest. Weights come from the fit described in
docs/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family

__all__ = ["CUES", "PairCues", "log_odds", "measure_cues"]


@dataclass(frozen=True, slots=True)
class Cue:
    """`weight` times the value, clipped to +-`limit`, is the log-odds."""

    weight: float
    limit: float
    says: str

    def log_odds(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of an array of values, in its shape."""
        return np.asarray(self.weight * np.clip(values, -self.limit, self.limit))


CUES: Final[Mapping[str, Cue]] = {
    "increment_spread": Cue(1.2, 1.5, "the change is the same shrink of the parent in every layer, plus noise"),
    "increment_zero": Cue(0.5, 1.5, "the change is uncorrelated with the parent's weights, layer by layer"),
    "growth": Cue(0.16, 5.0, "weights that changed most grew in magnitude"),
    "zeros": Cue(2.0, 3.0, "the child has zeros that the parent has not"),
    "counter": Cue(2.5, 1.0, "BatchNorm counted more training steps in the child"),
    "kurtosis": Cue(5.0, 1.0, "kurtosis moves one way along the tree's edges"),
}
"""increment_*: log of the ratio of the misfits backwards and forwards (see `increments`). growth: z-score. zeros: share
of weights times 50. counter: sign of the difference (right on 29 of 29 published checkpoint pairs). kurtosis: mean sign
of the fall over layers (eq. 3 layer by layer); its sign is a property of the training stage, so it is not summed with
the rest but judged over a whole tree (`indexer.ancestry`)."""

FEW: Final = 3.0
"""Layers that a misfit must be measured on to be half believed."""

PairCues = Mapping[str, float]


def measure_cues(family: Family, a: int, b: int) -> dict[str, float]:
    """All cues of the pair of rows a -> b. Antisymmetric: those of b -> a are the negatives."""
    # Damaged weights, whose squares are too large for a float, tell nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        cues = _measured(family, a, b)
    return {name: value if np.isfinite(value) else 0.0 for name, value in cues.items()}


def _measured(family: Family, a: int, b: int) -> dict[str, float]:
    shared = family.present[a] & family.present[b]
    precision = int(max(family.precision[a], family.precision[b]))
    x, y = family.samples.at(precision, [a, b])
    difference = y - x
    starts = family.starts[:-1]
    counts = np.diff(family.starts).astype(np.float64)
    squared = np.add.reduceat(difference**2, starts)
    moved = shared & (squared > 0)
    zeros = float(family.zeros[b] - family.zeros[a]) if shared.all() else 0.0
    cues = {
        "increment_spread": 0.0,
        "increment_zero": 0.0,
        "growth": 0.0,
        "zeros": 50.0 * zeros if abs(zeros) > 0.02 else 0.0,
        "counter": 0.0,
        "kurtosis": 0.0,
    }
    steps = family.counters[[a, b]]
    if (steps > 0).all():
        # NaN compares false: a model without a counter has no say.
        cues["counter"] = float(np.sign(steps[1] - steps[0]))
    if not moved.any():
        return cues
    scale = family.elements / counts
    distance = (squared * scale)[moved]
    n, m = family.covered[moved], counts[moved]
    p, c = family.norms[a][moved], family.norms[b][moved]
    forwards = increments(p, c, distance, n, m)
    backwards = increments(c, p, distance, n, m)
    # A mean over few layers is hardly one.
    trust = moved.sum() / (moved.sum() + FEW)
    for at, name in enumerate(("increment_spread", "increment_zero")):
        cues[name] = float(trust * np.log((backwards[at] + 0.1) / (forwards[at] + 0.1)))
    cues["growth"] = _growth(x, y, difference, starts, counts, scale, moved)
    cues["kurtosis"] = _fall(family.kurtosis[a][moved], family.kurtosis[b][moved], 2 * distance / (p + c), n)
    return cues


def _fall(
    a: NDArray[np.float64], b: NDArray[np.float64], change: NDArray[np.float64], elements: NDArray[np.float64]
) -> float:
    """Mean over layers of the sign of the fall of kurtosis from a to b, of layers where it is more than chance.

    `change` is |a - b|^2 over the mean squared norm. A sample kurtosis of n Gaussian values has variance 24 / n; that
    of the difference of two correlated ones shrinks with their change. Heavier tails have more, as the square.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return 0.0
    fall = (a - b)[known]
    noise = np.sqrt(24 / elements * np.minimum(2.0, 4 * change))[known] * (np.minimum(a, b)[known] / 3) ** 2
    return float(np.where(np.abs(fall) > 2 * noise, np.sign(fall), 0.0).mean())


def increments(
    parent: NDArray[np.float64],
    child: NDArray[np.float64],
    distance: NDArray[np.float64],
    elements: NDArray[np.float64],
    samples: NDArray[np.float64],
) -> tuple[float, float]:
    """Misfit of "child = (1 - s) parent + noise", by layer: about one common s, and about s = 0.

    All arguments are per layer: squared norms over `elements` values, squared distance estimated from `samples` of
    them.
    a_l = <c - p, p> / |p|^2 equals -s up to noise of |d| / (|p| sqrt(n)); backwards it holds -|e_l|^2 / |c_l|^2, which
    differs from layer to layer. <d, p> = (|c|^2 - |p|^2 - |d|^2) / 2 needs no weights. The misfit is the mean of
    log(1 + z^2), which a few odd layers cannot dominate.
    """
    # A parent of nothing but zeros: small beside what it became, and no division by zero.
    parent = np.maximum(np.maximum(parent, 1e-20 * np.maximum(child, distance)), 1e-300)
    a = (child - parent - distance) / (2 * parent)
    estimate = np.where(samples < elements, distance * np.sqrt(2 / samples), 0.0) / (2 * parent)
    noise = np.hypot(np.sqrt(distance / (parent * elements)), estimate)
    order = np.argsort(a)
    weight = np.cumsum((1 / noise)[order])
    common = a[order][np.searchsorted(weight, weight[-1] / 2)]
    return float(np.log1p(((a - common) / noise) ** 2).mean()), float(np.log1p((a / noise) ** 2).mean())


def _growth(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    difference: NDArray[np.float64],
    starts: NDArray[np.int64],
    counts: NDArray[np.float64],
    scale: NDArray[np.float64],
    moved: NDArray[np.bool_],
) -> float:
    """z-score of sum |e|^4 (c^2 - p^2), layers on one scale.

    If e is independent of p, coordinates that moved much grew: c^2 - p^2 = e^2 + 2pe. Weight decay shrinks all
    coordinates alike and hardly touches this sum, where it turns the plain norm around.
    """
    e = np.sqrt(np.add.reduceat(difference**2, starts) / counts)
    r = np.sqrt(np.add.reduceat(x**2 + y**2, starts) / (2 * counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        per_e, per_r = (np.repeat(np.where(moved, 1.0 / size, 0.0), np.diff(starts, append=x.size)) for size in (e, r))
    # Both factors without units: d^4 (y^2 - x^2) itself overflows for weights of 1e38.
    # Products, not powers: this is the inner loop of an update, and NumPy's ** 5 calls pow for each value.
    unit = difference * per_e
    square = unit * unit
    part = square * square * unit * ((x + y) * per_r)
    first = np.add.reduceat(part, starts) * scale
    second = np.add.reduceat(part * part, starts) * scale**2
    total = np.sqrt(second.sum())
    return float(first.sum() / total) if total > 0 else 0.0


def log_odds(name: str, value: float) -> float:
    """Log-odds, natural logarithm, that a cue's value gives to a -> b against b -> a."""
    return float(CUES[name].log_odds(np.array(value)))
