"""Where a sketch samples a tensor: a seeded sequence of positions that depends on nothing but the number of elements.

Of a tensor of more than LARGE elements all positions lie in one window of WINDOW elements, so that a few bytes of a
remote file hold them, and a reader of everything samples the same ones.

It is part of the sketch format, not of the code that computes sketches: whoever reads samples may need to know which
coordinates they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE", "WINDOW", "mix", "sample_positions", "window_start"]

LARGE: Final = 1 << 20
"""Tensors of more elements are probed: a sketch holds what one run of their values says, whoever reads them."""
WINDOW: Final = 1 << 14
"""Elements of the run that holds all sampled positions of such a tensor."""
_ALIGNED: Final = 1 << 12
"""Windows begin at multiples of this: packed formats group values by at most as many."""

_SHUFFLED: Final = 1 << 16
"""Tensors up to this many elements are sampled by a shuffle, larger ones by independent draws without repeats."""


def mix(counter: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """splitmix64 of seed and counter: a random stream that no library's next version can change."""
    with np.errstate(over="ignore"):
        z = counter * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def window_start(elements: int, seed: int) -> int:
    """Flat position where the window of a tensor of more than LARGE elements begins, seeded, a multiple of 4096."""
    places = (elements - WINDOW) // _ALIGNED + 1
    drawn = int(mix(np.zeros(1, np.uint64), seed * 15_485_863 + elements)[0])
    return drawn % places * _ALIGNED


@lru_cache(maxsize=256)
def sample_positions(elements: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` distinct flat positions in [0, elements), int64, read-only; at most WINDOW in more than LARGE elements.

    `sample_positions(n, a, s)` is a prefix of `sample_positions(n, b, s)` for a <= b.
    """
    if elements > LARGE:
        positions = window_start(elements, seed) + sample_positions(WINDOW, count, seed)
        positions.setflags(write=False)
        return positions
    count = min(count, elements)
    stream = seed * 1_000_003 + elements
    if elements <= _SHUFFLED:
        order = np.argsort(mix(np.arange(elements, dtype=np.uint64), stream), kind="stable")
        positions = order[:count].astype(np.int64)
    else:
        # 53 random bits scaled to [0, elements).
        drawn = count + 64 + count // 8
        while True:
            uniform = (mix(np.arange(drawn, dtype=np.uint64), stream) >> np.uint64(11)).astype(np.float64)
            flat = (uniform * (elements / 2.0**53)).astype(np.int64)
            _, first = np.unique(flat, return_index=True)
            if first.size >= count:
                positions = flat[np.sort(first)[:count]]
                break
            drawn *= 2
    positions.setflags(write=False)
    return positions
