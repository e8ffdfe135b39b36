"""Families of models that came about in every way that we know, at random: trained, computed, cut and damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import ml_dtypes
import numpy as np

from tests.grown import grow, start
from tests.weights import Weights

__all__ = ["mixed"]

Random = np.random.Generator
Way = Callable[[list[Weights], Random], Weights]


def mixed(seed: int, most: int = 36) -> dict[str, Weights]:
    """At least 4 models; their names tell nothing. Each family has its own habits."""
    rng = np.random.default_rng(seed)
    models = [start(seed, layers=int(rng.integers(1, 5)), width=int(rng.choice([16, 32])))]
    habits = rng.dirichlet(np.full(len(_WAYS), 0.3))
    # Damaged weights overflow, as they may.
    with np.errstate(over="ignore", invalid="ignore"):
        while len(models) < int(rng.integers(4, most)):
            models.append(_WAYS[int(rng.choice(len(_WAYS), p=habits))](models, rng))
    return dict(zip((f"m{i:02d}" for i in rng.permutation(100)), models, strict=False))


def _any(models: list[Weights], rng: Random) -> Weights:
    return models[int(rng.integers(len(models)))] if rng.random() < 0.8 else models[0]


def _each(change: Callable[[np.ndarray, Random], Any]) -> Way:
    """A way that changes each tensor of a model."""

    def way(models: list[Weights], rng: Random) -> Weights:
        return {name: np.asarray(change(w, rng)).astype(np.float32) for name, w in _any(models, rng).items()}

    return way


def _one(change: Callable[[np.ndarray, Random], Any]) -> Way:
    """A way that changes a single tensor."""

    def way(models: list[Weights], rng: Random) -> Weights:
        model = dict(_any(models, rng))
        name = sorted(model)[int(rng.integers(len(model)))]
        return model | {name: np.asarray(change(model[name], rng)).astype(np.float32)}

    return way


def _trained(models: list[Weights], rng: Random) -> Weights:
    return grow(_any(models, rng), int(rng.integers(1 << 30)), float(rng.uniform(0.01, 0.3)))


def _cast(models: list[Weights], rng: Random) -> Weights:
    dtype: Any = [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn][int(rng.integers(3))]
    return {name: w.astype(dtype).astype(np.float32) for name, w in _any(models, rng).items()}


def _merged(models: list[Weights], rng: Random) -> Weights:
    parents = [_any(models, rng) for _ in range(int(rng.integers(2, 4)))]
    shares = rng.dirichlet(np.ones(len(parents)))
    pairs = list(zip(shares, parents, strict=True))
    told = {name: np.asarray(sum(c * p[name].astype(float) for c, p in pairs)) for name in _names(parents)}
    return {name: w.astype(np.float32) for name, w in told.items()} or models[0]


def _added(models: list[Weights], rng: Random) -> Weights:
    """A base and what others learned, task arithmetic."""
    base, parents = models[0], [_any(models, rng) for _ in range(2)]
    result = {name: base[name].astype(float) for name in _names([base, *parents])}
    for parent in parents:
        share = float(rng.uniform(0.3, 1.0))
        result = {name: w + share * (parent[name].astype(float) - base[name]) for name, w in result.items()}
    return {name: w.astype(np.float32) for name, w in result.items()} or models[0]


def _dropped(models: list[Weights], rng: Random) -> Weights:
    """A base and half of what another learned, twice: DARE."""
    base, parent = models[0], _any(models, rng)
    result = {}
    for name in _names([base, parent]):
        kept = rng.random(base[name].shape) < 0.5
        result[name] = (base[name] + np.where(kept, 2 * (parent[name] - base[name]), 0)).astype(np.float32)
    return result or models[0]


def _cut(models: list[Weights], rng: Random) -> Weights:
    model = dict(_any(models, rng))
    if len(model) > 2:
        del model[sorted(model)[int(rng.integers(len(model)))]]
    return model


def _names(models: list[Weights]) -> list[str]:
    """The tensors that all of them have."""
    return sorted(set.intersection(*(set(each) for each in models)))


def _noise(w: np.ndarray, rng: Random) -> Any:
    return w + 0.1 * max(float(w.std()), 1e-3) * rng.standard_normal(w.shape)


def _low_rank(w: np.ndarray, rng: Random) -> Any:
    change = rng.standard_normal((w.shape[0], 2)) @ rng.standard_normal((2, w.shape[1]))
    return w + 0.1 * w.std() * change / change.std()


def _lattice(w: np.ndarray, rng: Random) -> Any:
    step = np.abs(w).max() / int(rng.choice([7, 127]))
    return np.round(w / step) * step if step > 0 else w


def _damaged(w: np.ndarray, rng: Random) -> Any:
    w = w.copy()
    w.flat[int(rng.integers(w.size))] = rng.choice([1e30, 1e12, -1e20, 3e38])
    return w


_WAYS: Final[tuple[Way, ...]] = (
    _trained,
    _cast,
    _merged,
    _added,
    _dropped,
    _cut,
    _each(_low_rank),
    _each(_lattice),
    _each(lambda w, rng: np.where(np.abs(w) < np.quantile(np.abs(w), rng.uniform(0.03, 0.8)), 0, w)),
    _each(lambda w, rng: w * (rng.random(w.shape) > 0.3)),
    _each(lambda w, rng: w * 2.0),
    _each(lambda w, rng: w),
    _one(_noise),
    _one(lambda w, rng: np.zeros_like(w)),
    _one(_damaged),
)
