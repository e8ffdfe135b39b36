"""Do a model's values lie on lattices, as quantisation leaves them? One step a tensor, row, column, or group of a row.

The step of a row is in no sketch, but two sampled values of one row that are whole multiples of one step have a ratio
of two small whole numbers, and the positions of samples say which lie in one row. By chance a ratio comes as near to
one of the 0.3 P^2 fractions with a denominator up to P only where P^2 times the relative rounding is large: so P is
chosen such that chance cannot account for it, and values that are stored too coarsely for any P are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from store.format import SketchFormat
from store.positions import sample_positions

__all__ = ["Steps", "common_steps", "find_steps", "lattice_pairs"]

_LEVELS: Final = 255
"""Largest whole number in units of a step: eight bits, with the zero point at one end."""
_FEWEST: Final = 7
"""Four bits, symmetric: where even that many levels cannot be told from chance nothing is said."""
_CHANCE: Final = 0.15
_HITS: Final = 0.5
"""Share of pairs that must have a common step: heads and embeddings are often left as they were."""
_PAIRS: Final = 2048
"""Pairs at most, of all tensors together."""
_FIRST: Final = 32
"""Pairs that are asked first: most models are not quantised."""
_LEAST: Final = 24
_GROUPS: Final = (128, 64, 32)
_HALF_UNIT: Final = (2.0**-24, 2.0**-11, 2.0**-8)
"""Relative rounding error at most, by `Family.precision`."""

Triples = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Steps:
    """The common steps of pairs of samples of one model."""

    columns: NDArray[np.int64]
    """2 x P: columns of `Family.samples`."""
    step: NDArray[np.float64]
    """P: NaN where a pair has none."""
    beside: NDArray[np.int64]
    """2 x Q: columns of a sample that is zero, and of one that is not and shares its step."""


def common_steps(
    one: NDArray[np.float64], other: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P: the largest step of which both values are whole multiples; NaN where there is none, or either value is 0.

    `error` is 2 x P: how far rounding may have moved each of the two.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        tolerance = error[0] / np.abs(one) + error[1] / np.abs(other)
    usable = np.isfinite(tolerance) & (one != 0) & (other != 0)
    step = np.full(one.size, np.nan)
    if not usable.any():
        return step
    # Fractions with a denominator up to P are 0.3 P^2 in number, each of them hit by `tolerance` on the average.
    most = int(min(_LEVELS, np.sqrt(_CHANCE / (0.304 * max(float(np.median(tolerance[usable])), 1e-12)))))
    if most < _FEWEST:
        return step
    sizes = np.abs(np.stack([one, other])[:, usable])
    high, ratio = sizes.max(axis=0), sizes.min(axis=0) / sizes.max(axis=0)
    multiple = ratio * np.arange(1, most + 1)[:, None]
    whole = np.rint(multiple)
    fits = (np.abs(multiple - whole) <= tolerance[usable] * multiple) & (whole >= 1)
    step[usable] = np.where(fits.any(axis=0), high / (1 + fits.argmax(axis=0)), np.nan)
    return step


def lattice_pairs(family: Family) -> list[Triples]:
    """For each way of sharing a step, 3 x P columns of `Family.samples`: two samples, and a third of the same group.

    The first two are for lattices through zero. The third is -1 where the group has no other sample. Ways in which no
    two samples share a group are left out.
    """
    return _pairs(tuple((tensor.shape, tensor.samples.shape[1]) for tensor in family.measured))


@lru_cache(maxsize=64)
def _pairs(tensors: tuple[tuple[tuple[int, ...], int], ...]) -> list[Triples]:
    return [triples for way in range(3 + len(_GROUPS)) if (triples := _gathered(tensors, way)).size]


def _gathered(tensors: tuple[tuple[tuple[int, ...], int], ...], way: int) -> Triples:
    seed = SketchFormat().seed
    parts, start = [], 0
    for shape, count in tensors:
        local = _triples(shape, count, seed, way)
        parts.append(np.where(local >= 0, local + start, -1))
        start += count
    found = np.concatenate(parts, axis=1)
    # Evenly over the tensors; what comes first is a fair sample of all.
    order = np.argsort(np.arange(found.shape[1]) * 0.6180339887498949 % 1.0, kind="stable")[:_PAIRS]
    return np.asarray(found[:, order])


@lru_cache(maxsize=1024)
def _triples(shape: tuple[int, ...], count: int, seed: int, way: int) -> Triples:
    """3 x P: neighbours among the samples of one tensor that share a group."""
    positions = sample_positions(int(np.prod(shape, dtype=np.int64)), count, seed)
    last = shape[-1] if shape else 1
    row = positions // int(np.prod(shape[1:], dtype=np.int64))
    if way > 2 and (last <= _GROUPS[way - 3] or last % _GROUPS[way - 3]):
        return np.empty((3, 0), np.int64)
    key = (np.zeros_like(positions), row, positions % last)[way] if way < 3 else positions // _GROUPS[way - 3]
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    at = np.flatnonzero(same)
    third = np.where(np.append(same, False)[at + 1], order[np.minimum(at + 2, len(order) - 1)], -1)
    return np.stack([order[at], order[at + 1], third])


def find_steps(family: Family, row: int, pairs: list[Triples]) -> list[Steps]:
    """The steps of a model, for each way in which at least half of its pairs may have one.

    `pairs` is `lattice_pairs(family)`. Through zero first, which all symmetric quantisers and those with a whole zero
    point leave; then with an offset: the differences of three values are whole multiples of a step.
    """
    y = family.samples[row]
    half = _HALF_UNIT[int(family.precision[row])]
    found = []
    for offset in (False, True):
        for triples in pairs:
            chosen = triples[:, triples[2] >= 0] if offset else triples
            first = _steps(y, half, chosen[:, :_FIRST], offset)
            if np.isfinite(first.step).sum() >= 0.5 * _HITS * max(first.step.size, _LEAST // 2):
                every = _steps(y, half, chosen, offset)
                if every.step.size >= _LEAST and np.isfinite(every.step).sum() >= 0.5 * _HITS * every.step.size:
                    found.append(every)
    return found


def _steps(y: NDArray[np.float64], half: float, triples: Triples, offset: bool) -> Steps:
    """The common steps of the pairs that can have one: not zero, or, with an offset, not equal to the third."""
    columns = triples[:2]
    values = y[columns] - (y[triples[2]] if offset else 0.0)
    error = half * 1.25 * (np.abs(y[columns]) + (np.abs(y[triples[2]]) if offset else 0.0))
    judged = (values != 0).all(axis=0)
    beside = np.concatenate([way[:, (y[way[0]] == 0) & (y[way[1]] != 0)] for way in (columns, columns[::-1])], axis=1)
    return Steps(columns[:, judged], common_steps(values[0, judged], values[1, judged], error[:, judged]), beside)
