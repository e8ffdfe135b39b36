"""What the paper's tables need of one set, measured once: distances of all pairs, layer by layer, ranks and scores.

Everything after this is arithmetic on n x n matrices, so that a sub-tree or another constant costs milliseconds; the
weights themselves are let go.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.whole_weights import Descent
from indexer.family import Family
from indexer.paper import layer_differences, layer_kind
from indexer.rank import difference_rank
from indexer.samples import Samples

__all__ = ["SPAWNED", "Measured", "Ranks", "measure", "rank_workers"]

SPAWNED: Final = 2
"""Processes that take singular values, with one thread each."""


@dataclass(frozen=True, slots=True)
class Measured:
    """n models of a set and the T weights of their backbone, from sketches or from whole weights."""

    split: str
    source: str
    """`sketch` or `weights`."""
    truth: Descent
    kinds: tuple[str, ...]
    """T: query, key, value, fused or dense."""
    tuned: NDArray[np.bool_]
    """T: layers that differ between models of any one tree."""
    low: NDArray[np.float64]
    """T x n."""
    high: NDArray[np.float64]
    largest: NDArray[np.float64]
    """T x n x n: the largest |u_l - v_l|."""
    absolute: NDArray[np.float64]
    """n x n: L1 distance over all layers."""
    kurtosis: NDArray[np.float64]
    """T x n."""
    ranks: NDArray[np.float64] | None
    """n x n: largest rank of u_l - v_l over the tuned value layers; None where the set is no LoRA."""
    full: int
    """The largest rank that could be seen: k."""

    @property
    def trees(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.truth.tree)))

    @property
    def lora(self) -> bool:
        return self.ranks is not None

    def rows(self, tree: str) -> NDArray[np.int64]:
        """The rows of one tree."""
        return np.flatnonzero(np.array(self.truth.tree) == tree)

    @property
    def layers(self) -> NDArray[np.bool_]:
        """T: L of equations 1 and 3. The dense layers; where they are frozen, the tuned value layers, or what was
        tuned."""
        for kinds in (("dense",), ("value", "fused")):
            chosen = self.tuned & np.isin(self.kinds, kinds)
            if chosen.any():
                return np.asarray(chosen)
        return self.tuned

    @property
    def score(self) -> NDArray[np.float64]:
        """Equation 3, n."""
        return np.asarray(np.nansum(self.kurtosis[self.layers], axis=0))

    def distance(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """`l_ft` (equation 1, normalised over these rows) or `l_lora` (equation 2) among some rows."""
        if name == "l_lora":
            if self.ranks is None:
                raise ValueError(f"{self.split}: no ranks were measured")
            return np.asarray(self.ranks[np.ix_(rows, rows)])
        chosen = self.layers
        span = self.high[chosen][:, rows].max(axis=1) - self.low[chosen][:, rows].min(axis=1)
        part = self.largest[chosen][:, rows[:, None], rows[None, :]]
        return np.asarray((part / np.where(span > 0, span, 1.0)[:, None, None]).max(axis=0))


def measure(split: str, source: str, truth: Descent, family: Family, ranks: Ranks | None) -> Measured:
    """Measure all pairs of a family; `ranks` takes the singular values, None where the set is no LoRA."""
    T, n = len(family.measured), len(family)
    largest, absolute = np.zeros((T, n, n)), np.zeros((n, n))
    for at, tensor in enumerate(family.measured):
        both = np.outer(tensor.present, tensor.present)
        top, total = layer_differences(tensor.samples[:])
        largest[at] = top * both
        absolute += total * (tensor.elements / tensor.samples.shape[1] * both)
    trees = np.array(truth.tree)
    tuned = np.array(
        [any(len(set(np.array(t.hashes)[trees == tree]) - {b""}) > 1 for tree in set(trees)) for t in family.measured]
    )
    slim = _slim(family, tuned)
    return Measured(
        split,
        source,
        truth,
        tuple(layer_kind(t.name) for t in family.measured),
        tuned,
        np.stack([t.minimum for t in family.measured]),
        np.stack([t.maximum for t in family.measured]),
        largest,
        absolute,
        np.stack([t.kurtosis for t in family.measured]),
        None if ranks is None else ranks(slim),
        max((int(np.sqrt(values.shape[1])) for values in slim.projections.values()), default=0),
    )


def _slim(family: Family, tuned: NDArray[np.bool_]) -> Family:
    """What ranks need: the projected value layers that were tuned, or whatever is projected; no samples."""
    names = {t.name for t, moved in zip(family.measured, tuned, strict=True) if moved} & set(family.projections)
    names = {name for name in names if layer_kind(name) in ("value", "fused")} or names or set(family.projections)
    return replace(
        family,
        tensors=tuple(
            replace(t, samples=Samples(np.empty((len(family), 0), np.float32)))
            for t in family.tensors
            if t.name in names
        ),
        projections={name: family.projections[name] for name in names},
    )


class Ranks:
    """Equation 2 for all pairs of a family, rows dealt out to the processes of a pool; in this process without one."""

    def __init__(self, pool: ProcessPoolExecutor | None = None) -> None:
        self._pool = pool

    def __call__(self, family: Family) -> NDArray[np.float64]:
        """n x n."""
        n = len(family)
        result = np.zeros((n, n))
        hands = [list(range(hand, n, 2 * SPAWNED)) for hand in range(2 * SPAWNED)]
        row_ranks = partial(_row_ranks, family)
        found = self._pool.map(row_ranks, hands) if self._pool else map(row_ranks, hands)
        for hand, rows in zip(hands, found, strict=True):
            for i, row in zip(hand, rows, strict=True):
                result[i, : len(row)] = row
        return result + result.T


def _row_ranks(family: Family, rows: Sequence[int]) -> list[list[float]]:
    """For each row i: the ranks of its differences from rows 0 to i - 1."""
    return [[float((difference_rank(family, i, j) or (0,))[0]) for j in range(i)] for i in rows]


@contextmanager
def rank_workers() -> Iterator[Ranks]:
    """Processes with one BLAS thread each: on a busy machine, the threads of one small decomposition wait for one
    another thirty times as long as it takes."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(SPAWNED, mp_context=multiprocessing.get_context("spawn")) as pool:
            # Started now, while the environment says so.
            list(pool.map(abs, range(SPAWNED)))
            yield Ranks(pool)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
