"""Models that were computed from another one rather than trained: casts, quantised and pruned copies.

They are leaves: what they came from lies at a distance that rounding or masking explains, so they are recognised
exactly, hung on it, and kept out of the search for parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.lattice import Steps, find_steps, lattice_pairs
from indexer.quantized import rounded_at_zero, rounded_to

__all__ = ["derivation", "find_derived"]

_LATTICES: Final[tuple[tuple[str, Any], ...]] = (
    ("BF16", ml_dtypes.bfloat16),
    ("F16", np.float16),
    ("F8_E4M3", ml_dtypes.float8_e4m3fn),
    ("F8_E5M2", ml_dtypes.float8_e5m2),
)
_LEAST_ZEROS: Final = 0.02
"""Share of weights that must have become zero for "pruned"."""
_CLOSE: Final = 1.02
"""Sources whose squared distances are within this factor explain a copy equally well."""

_SHORT: Final = ("I", "U", "F8")


def _fraction(hit: NDArray[np.bool_]) -> float:
    return float(hit.mean()) if hit.size else 0.0


def derivation(
    family: Family, a: int, b: int, steps: Sequence[Steps] | None = None, *, twice: bool = False
) -> str | None:
    """How row b was computed from row a: "cast", "quantized", "pruned", or None when it was not.

    cast: rounding a to a shorter float gives b. pruned: b is a with more zeros. quantized: b lies on lattices and
    within half a step of a, or what became zero says so. `steps` is `find_steps` of b, found here when not given.
    With `twice`, a quantised b may have been pruned besides.
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
    if _is_cast(family, a, b):
        return "cast"
    steps = find_steps(family, b, lattice_pairs(family)) if steps is None else steps
    if rounded_to(family, a, b, steps, zeros=not twice):
        return "quantized"
    if twice or family.zeros[b] <= family.zeros[a]:
        return None
    tensor = np.repeat(np.arange(len(family.measured)), np.diff(family.starts))
    return "quantized" if rounded_at_zero(x, y, tensor) else None


def _is_cast(family: Family, a: int, b: int) -> bool:
    """Biases and norms included: where they were trained, equal weights are no cast."""
    x, y = family.samples[a], family.samples[b]
    for _, dtype in _LATTICES:
        if np.array_equal(_cast(x[:32], dtype), y[:32]):
            both = [t.samples[[a, b]] for t in family.tensors if t.role == "vector" and t.present[[a, b]].all()]
            x, y = np.concatenate([family.samples[[a, b]], *both], axis=1)
            if _fraction(_cast(x, dtype) == y) >= 0.999 > _fraction(_cast(y, dtype) == x):
                return True
    return False


def _cast(values: NDArray[np.float64], dtype: Any) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype).astype(np.float64))


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
    pairs = lattice_pairs(family)
    for b in range(len(family)):
        if short[b] and not short.all():
            a = int(np.argmax(np.where(short, -np.inf, correlation[b])))
            found[b] = (a, derivation(family, a, b) or "quantized")
            continue
        near = [int(a) for a in np.argsort(squared[b], kind="stable")[:9] if a != b and np.isfinite(squared[b, a])]
        steps = find_steps(family, b, pairs)
        sources: dict[int, str] = {}
        for twice in (False, True) if steps else (False,):
            sources = sources or {
                a: relation
                for a in near
                if (relation := derivation(family, a, b, steps, twice=twice)) and not _is_cast(family, b, a)
            }
        if not sources:
            continue
        casts = [a for a, relation in sources.items() if relation == "cast"]
        best = _best(family, b, casts or sources)
        if not _leads_to(found, best, b):
            found[b] = (best, sources[best])
    return found


def _best(family: Family, b: int, sources: Iterable[int]) -> int:
    """The source that is closest in the values that b kept.

    Of those that are as close, the one with the fewest zeros: several levels of magnitude pruning from one source share
    all values that they keep, and those of the lower level nest in the higher; whoever prunes a pruned model further
    trains it in between. Of those, the one that rounding has not touched.
    """
    kept = family.samples[b] != 0
    apart = {a: float(((family.samples[a] - family.samples[b])[kept] ** 2).sum()) for a in sources}
    close = _CLOSE * min(apart.values())
    return min(sources, key=lambda a: (apart[a] > close, family.zeros[a], family.precision[a], apart[a], a))


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
