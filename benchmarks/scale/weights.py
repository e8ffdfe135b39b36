"""Weights of a synthetic Hub, by the tree-metric model: a child is its parent plus an increment of its own.

Models are small (four matrices, four norms), so that a sketch keeps every coordinate; the sketch itself is made by the
project's own code from these weights. Any model's weights follow from the seed and its line of descent alone: nothing
has to be kept, and a run that was stopped goes on anywhere.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.scale.forest import ARCHITECTURES, KINDS, Forest

__all__ = ["Weights", "WeightsOf", "make_shapes"]

_LAYERS: Final = 4
_FULL_SIDE: Final = 3
_RANK: Final = 2
_SCALE: Final = 0.05
"""Standard deviation of a root's weights."""
_ZEROED: Final = 0.5
_CACHED: Final = 4_096

Array = NDArray[Any]
Weights = Mapping[str, Array]


def make_shapes(architecture: int, full_size: bool = False) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a model's tensors; of `full_size`, so large that a sketch has the samples of any real model."""
    side = ARCHITECTURES[architecture] * (_FULL_SIDE if full_size else 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(_LAYERS):
        shapes[f"layers.{layer}.attn.q_proj.weight"] = (side, side)
        shapes[f"layers.{layer}.norm.weight"] = (side,)
    return shapes


class WeightsOf:
    """Weights of each model of a forest, float32 or, where all of a family or a cast is stored so, bfloat16."""

    def __init__(self, forest: Forest, seed: int, full_size: bool = False) -> None:
        self._forest = forest
        self._seed = seed
        self._full_size = full_size
        self._cache: OrderedDict[int, Weights] = OrderedDict()

    def __call__(self, index: int) -> Weights:
        """Name -> array, in the form that the model is stored in."""
        # In a loop: a run may be longer than Python's stack is deep.
        missing, at = [], index
        while at >= 0 and at not in self._cache:
            missing.append(at)
            at = int(self._forest.parent[at])
        found: Weights = {}
        if at >= 0:
            found = self._cache[at]
            self._cache.move_to_end(at)
        for at in reversed(missing):
            found = self._cache[at] = self._root(at) if self._forest.parent[at] < 0 else self._child(at, found)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return found

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, index])

    def _stored(self, index: int) -> Any:
        """Half of the families are trained and stored in bfloat16."""
        family = int(self._forest.family[index])
        return ml_dtypes.bfloat16 if np.random.default_rng([self._seed, 7, family]).random() < 0.5 else np.float32

    def _root(self, index: int) -> Weights:
        rng, dtype = self._rng(index), self._stored(index)
        return {
            name: ((1 + 0.1 * rng.standard_normal(shape)) if len(shape) == 1 else _SCALE * _heavy(rng, shape)).astype(
                dtype
            )
            for name, shape in make_shapes(int(self._forest.architecture[index]), self._full_size).items()
        }

    def _child(self, index: int, parent: Weights) -> Weights:
        rng = self._rng(index)
        kind = KINDS[int(self._forest.kind[index])]
        step = float(self._forest.step[index])
        if kind == "copy":
            return parent
        if kind == "merge":
            other = self(int(self._forest.other[index]))
            return _each(parent, lambda name, w: (w + other[name].astype(np.float64)) / 2)
        if kind == "cast":
            shorter = np.float16 if _dtype(parent) == ml_dtypes.bfloat16 else ml_dtypes.bfloat16
            shorter = ml_dtypes.float8_e4m3fn if _dtype(parent) == ml_dtypes.bfloat16 else shorter
            return {name: w.astype(shorter) for name, w in parent.items()}
        if kind == "quantized":
            return _each(parent, lambda _, w: _quantized(w) if w.ndim == 2 else w)
        if kind == "pruned":
            return _each(parent, lambda _, w: _pruned(w) if w.ndim == 2 else w)
        if kind == "lora":
            return _each(parent, lambda _, w: w + _low_rank(rng, w.shape, step) if w.ndim == 2 else w)
        # Layers move by different amounts, as they do.
        return _each(parent, lambda _, w: w + step * rng.uniform(0.5, 1.5) * _length(w) * rng.standard_normal(w.shape))


def _dtype(weights: Weights) -> Any:
    return next(iter(weights.values())).dtype


def _each(parent: Weights, change: Callable[[str, NDArray[np.float64]], NDArray[np.float64]]) -> Weights:
    return {name: change(name, w.astype(np.float64)).astype(w.dtype) for name, w in parent.items()}


def _length(w: NDArray[np.float64]) -> float:
    """Standard deviation of a root's weights in such a tensor."""
    return _SCALE if w.ndim == 2 else 0.02


def _heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Unit variance, tails a little heavier than a Gaussian's, as trained weights have."""
    return np.asarray(rng.standard_t(8, shape) / math.sqrt(8 / 6))


def _low_rank(rng: np.random.Generator, shape: tuple[int, ...], step: float) -> NDArray[np.float64]:
    a, b = rng.standard_normal((shape[0], _RANK)), rng.standard_normal((_RANK, shape[1]))
    return np.asarray(step * _SCALE / math.sqrt(_RANK) * (a @ b))


def _quantized(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """8 bits, a step a row, and back."""
    scale = np.abs(w).max(axis=1, keepdims=True) / 127
    return np.asarray(np.round(w / scale) * scale)


def _pruned(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smaller half of the weights set to zero."""
    return np.where(np.abs(w) < np.quantile(np.abs(w), _ZEROED), 0.0, w)
