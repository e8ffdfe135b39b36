"""What the bytes say of an edge: the rank of a child's difference, and how much of the parent it still has.

The definitions that the sketches' answers are held against, from whole weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.architecture import backbone, canonical_names, role
from crawl.folder import FolderSource
from crawl.readers import Readers
from crawl.shards import model_tensors
from crawl.source import ModelRef
from store.dtypes import DTYPES

__all__ = ["Weights", "frozen_share", "weights_reader", "whole_rank"]

SLACK: Final = 16.0
"""How many times the energy of rounding to float32 may be left behind by a rank: merges add roundings of their own."""

Weights = Mapping[str, NDArray[Any]]
"""Tensor -> values as they are stored, of the weights and embeddings of the backbone."""


def weights_reader(folder: Path) -> Callable[[str], Weights]:
    """What reads the weights of a model of a collection, by name; the last few are kept."""
    source = FolderSource(folder)
    refs = {ref.name: ref for ref in source.models() if isinstance(ref, ModelRef)}

    @lru_cache(maxsize=8)
    def read(name: str) -> Weights:
        with closing(Readers(source, refs[name])) as readers:
            found = {entry.name: (file, entry) for file, entry in model_tensors(source, refs[name], open_file=readers)}
            canonical = canonical_names({name: entry.shape for name, (_, entry) in found.items()})
            body = set(backbone({canonical[name]: entry.shape for name, (_, entry) in found.items()}))
            weights = {}
            for stored, (file, entry) in found.items():
                if canonical[stored] in body and role(canonical[stored], entry.shape) in ("weight", "embedding"):
                    raw = bytearray(entry.stop - entry.start)
                    readers(file).read_into(entry.start, memoryview(raw))
                    weights[canonical[stored]] = np.frombuffer(raw, DTYPES[entry.dtype]).reshape(entry.shape)
        return weights

    return read


def whole_rank(parent: Weights, child: Weights) -> int | None:
    """The largest rank of a difference of two matrices; None where one is stored more shortly than in float32.

    A rank is the least number of singular values that leaves no more energy behind than rounding to float32 explains.
    In sixteen bits that is most of the spectrum, whatever the rank was.
    """
    ranks = [0]
    for name, before in parent.items():
        after = child.get(name)
        if after is None or before.ndim != 2 or before.shape != after.shape or (before == after).all():
            continue
        if min(before.dtype.itemsize, after.dtype.itemsize) < 4:
            return None
        energy = np.linalg.svd(after.astype(np.float64) - before, compute_uv=False) ** 2
        left = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
        unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(after.astype(np.float64)), 1e-30))) - 23)
        ranks.append(int(np.argmax(left <= SLACK * float((unit**2).sum()) / 12)))
    return max(ranks)


def frozen_share(parent: Weights, child: Weights) -> float:
    """Of the values of weights and embeddings that both have, the share in tensors that are equal."""
    both = [(before, child[name]) for name, before in parent.items() if name in child]
    frozen = sum(before.size for before, after in both if np.array_equal(before, after))
    return frozen / max(1, sum(before.size for before, _ in both))
