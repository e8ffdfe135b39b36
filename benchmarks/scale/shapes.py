"""Forests of other shapes than that of a synthetic Hub: what a method that was tuned on one shape may fail on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.scale.forest import ARCHITECTURES, KINDS, Forest

__all__ = ["SHAPES", "shaped_forest"]

_MEDIAN: Final = 0.06
_SPREAD: Final = 0.5
_LARGEST: Final = 0.25
"""Of training steps, as in benchmarks/scale/forest.py; where a shape is deep they are smaller."""
_PLACE: Final = {kind: place for place, kind in enumerate(KINDS)}

Ints = NDArray[np.int64]
_Shape = Callable[[int, np.random.Generator], Forest]


def shaped_forest(shape: str, models: int, seed: int = 0) -> Forest:
    """One family of so many models (`small`: many) of a shape of SHAPES; the same call gives the same forest."""
    return SHAPES[shape](models, np.random.default_rng([seed, models]))


def _forest(
    rng: np.random.Generator,
    parent: Ints,
    kind: Ints | None = None,
    other: Ints | None = None,
    family: Ints | None = None,
    median: float = _MEDIAN,
    spread: float = _SPREAD,
    largest: float = _LARGEST,
) -> Forest:
    n = len(parent)
    kind = np.ones(n, np.int64) if kind is None else kind
    family = np.zeros(n, np.int64) if family is None else family
    step = np.minimum(median * np.exp(spread * rng.standard_normal(n)), largest)
    return Forest(
        parent,
        np.full(n, -1) if other is None else other,
        np.where(parent < 0, 0, kind),
        family,
        family % len(ARCHITECTURES),
        step,
    )


def _under_root(n: int) -> Ints:
    return np.where(np.arange(n) == 0, -1, 0)


def _recursive(n: int, rng: np.random.Generator) -> Ints:
    """Each on any earlier one."""
    return np.array([-1, *(int(rng.integers(at)) for at in range(1, n))])


def _star(n: int, rng: np.random.Generator) -> Forest:
    return _forest(rng, _under_root(n))


def _lora(n: int, rng: np.random.Generator) -> Forest:
    return _forest(rng, _under_root(n), np.full(n, _PLACE["lora"]))


def _chain(n: int, rng: np.random.Generator) -> Forest:
    return _forest(rng, np.arange(n) - 1, median=0.02)


def _comb(n: int, rng: np.random.Generator) -> Forest:
    """A chain, each of which has a child beside."""
    at = np.arange(n)
    return _forest(rng, np.where(at % 2 == 0, at - 2, at - 1).clip(-1), median=0.03)


def _binary(n: int, rng: np.random.Generator) -> Forest:
    return _forest(rng, (np.arange(n) + 1) // 2 - 1)


def _uniform(n: int, rng: np.random.Generator) -> Forest:
    return _forest(rng, _recursive(n, rng))


def _preferential(n: int, rng: np.random.Generator) -> Forest:
    """Each on an earlier one, the likelier the more children that has."""
    parent, ends = [-1], [0]
    for at in range(1, n):
        parent.append(ends[int(rng.integers(len(ends)))])
        ends += [parent[-1], parent[-1], at]
    return _forest(rng, np.array(parent))


def _derived(n: int, rng: np.random.Generator) -> Forest:
    """A base with children, a quarter of all, and three quarters computed from these or copied."""
    at, trained = np.arange(n), max(1, n // 4)
    made = np.array([_PLACE[kind] for kind in ("quantized", "cast", "pruned", "copy")])
    kind = np.where(at < trained, 1, made[at % 4])
    return _forest(rng, np.where(at == 0, -1, np.where(at < trained, 0, at % trained)), kind)


def _merged(n: int, rng: np.random.Generator) -> Forest:
    """A base with children, a third of all, and merges of two of them."""
    trained = n // 3 + 1
    parent, other = _under_root(n), np.full(n, -1)
    for at in range(trained, n):
        parent[at], other[at] = rng.choice(np.arange(1, trained), 2, replace=False)
    return _forest(rng, parent, np.where(np.arange(n) < trained, 1, _PLACE["merge"]), other)


def _small(n: int, rng: np.random.Generator) -> Forest:
    """Families of five in all architectures: a root with three children, one of which has one."""
    at = np.arange(n)
    first = at - at % 5
    return _forest(rng, np.where(at % 5 == 0, -1, first + np.array([0, 0, 0, 0, 1])[at % 5]), family=at // 5)


def _uneven(n: int, rng: np.random.Generator) -> Forest:
    """Steps from a thousandth of the root's length to all of it."""
    return _forest(rng, _recursive(n, rng), median=0.03, spread=1.5, largest=1.0)


def _even(n: int, rng: np.random.Generator) -> Forest:
    """Steps of one length."""
    return _forest(rng, _recursive(n, rng), spread=0.0)


SHAPES: Final[Mapping[str, _Shape]] = {
    "star": _star,
    "lora": _lora,
    "uniform": _uniform,
    "preferential": _preferential,
    "binary": _binary,
    "even": _even,
    "uneven": _uneven,
    "comb": _comb,
    "chain": _chain,
    "derived": _derived,
    "merged": _merged,
    "small": _small,
}
