"""Models that were computed from another one rather than trained: casts, quantised and pruned copies.

They are leaves: what they came from lies at a distance that rounding or masking explains, so they are recognised
exactly, hung on it, and kept out of the search for parents.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from indexer.family import Family

__all__ = ["derivation", "find_derived"]

_LATTICES: Final[tuple[tuple[str, Any], ...]] = (
    ("BF16", ml_dtypes.bfloat16),
    ("F16", np.float16),
    ("F8_E4M3", ml_dtypes.float8_e4m3fn),
    ("F8_E5M2", ml_dtypes.float8_e5m2),
)
_LEAST_ZEROS: Final = 0.02
"""Share of weights that must have become zero for "pruned"."""


_SHORT: Final = ("I", "U", "F8")


def _fraction(hit: NDArray[np.bool_]) -> float:
    return float(hit.mean()) if hit.size else 0.0


def derivation(family: Family, a: int, b: int) -> str | None:
    """How row b was computed from row a: "cast", "quantized", "pruned", or None when it was not.

    cast: rounding a to a shorter float gives b. pruned: b is a with more zeros. quantized: in most tensors b takes few
    values on an even lattice, and differs from a by at most half a step.
    """
    if not (family.present[a] & family.present[b]).all():
        return None
    x, y = family.samples[a], family.samples[b]
    if np.array_equal(x, y):
        return None
    if float(family.zeros[b] - family.zeros[a]) >= _LEAST_ZEROS:
        kept = y != 0
        # Rounding on the way out (a pruned copy saved in bfloat16) stays within 1/256 of a value.
        if _fraction(np.abs(y[kept] - x[kept]) <= np.abs(x[kept]) / 256) >= 0.999:
            return "pruned"
    for _, dtype in _LATTICES:
        with np.errstate(over="ignore"):
            if not np.array_equal(x[:32].astype(dtype).astype(np.float64), y[:32]):
                continue
            forwards = _fraction(x.astype(dtype).astype(np.float64) == y)
            backwards = _fraction(y.astype(dtype).astype(np.float64) == x)
        if forwards >= 0.999 and not backwards >= 0.999:
            return "cast"
    return "quantized" if _few_levels(family, b) and _on_lattice(family, a, b) else None


def _few_levels(family: Family, row: int) -> bool:
    """Does a sampled value of the largest tensor often come twice? A cheap question before the exact one."""
    t = int(np.argmax(family.elements))
    values = family.samples[row, family.starts[t] : family.starts[t + 1]]
    return len(np.unique(values)) <= 0.9 * len(values)


def _on_lattice(family: Family, a: int, b: int) -> bool:
    x, y = family.samples[a], family.samples[b]
    hits = total = 0.0
    for t, (first, last) in enumerate(zip(family.starts[:-1], family.starts[1:], strict=True)):
        xs, ys = x[first:last], y[first:last]
        if np.array_equal(xs, ys):
            continue
        total += family.elements[t]
        levels = np.unique(ys)
        if len(levels) < 2 or len(levels) > 0.9 * len(np.unique(xs)):
            continue
        steps = np.diff(levels)
        step = float(np.min(steps))
        even = np.abs(steps / step - np.round(steps / step)) < 0.05 * np.maximum(1, np.round(steps / step) ** 0.5)
        if even.mean() >= 0.9 and float(np.quantile(np.abs(xs - ys), 0.99)) <= 0.55 * step:
            hits += family.elements[t]
    return total > 0 and hits >= 0.5 * total


def find_derived(
    family: Family, squared: NDArray[np.float64], correlation: NDArray[np.float64]
) -> dict[int, tuple[int, str]]:
    """Row -> (row that it was computed from, relation), over one component; `squared` and `correlation` are n x n.

    Models stored as integers or float8 whose scales lie elsewhere have no distance to speak of, but a correlation: they
    hang on the float model that they correlate with most. Of the rest, only the eight nearest are tried: what a model
    was computed from is nearer than what it was trained from. A circle cannot arise: each relation loses information.
    """
    found: dict[int, tuple[int, str]] = {}
    short = _short(family)
    for b in range(len(family)):
        if short[b] and not short.all():
            a = int(np.argmax(np.where(short, -np.inf, correlation[b])))
            found[b] = (a, derivation(family, a, b) or "quantized")
            continue
        near = [int(a) for a in np.argsort(squared[b], kind="stable")[:9] if a != b and np.isfinite(squared[b, a])]
        sources = {a: relation for a in near if (relation := derivation(family, a, b)) is not None}
        if not sources:
            continue
        # A pruned model fits a cast of its original nearly as well as the original: the closest in its own values wins,
        # and of those that are as close, the one that rounding has not touched.
        kept = family.samples[b] != 0
        apart = {a: float(((family.samples[a] - family.samples[b])[kept] ** 2).sum()) for a in sources}
        close = 1.02 * min(apart.values())
        best = min(sources, key=lambda a: (apart[a] > close, family.precision[a], apart[a], a))
        if not _leads_to(found, best, b):
            found[b] = (best, sources[best])
    return found


def _short(family: Family) -> NDArray[np.bool_]:
    """n: is most of the model stored in eight bits or as integers?"""
    share = np.zeros(len(family))
    for tensor, elements in zip(family.measured, family.elements, strict=True):
        share += elements * np.array([dtype.startswith(_SHORT) for dtype in tensor.dtypes])
    return np.asarray(share > 0.5 * family.elements.sum())


def _leads_to(found: dict[int, tuple[int, str]], row: int, target: int) -> bool:
    while row in found:
        row = found[row][0]
        if row == target:
            return True
    return False
