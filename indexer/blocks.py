"""What is worked out of each row of a large array, by threads: for products of matrices and compiled loops, which let
others run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_blocks"]

_BLOCK: Final = 4096
"""Rows at a time, and in the last block up to twice as many: of few rows, BLAS sums a product in another order."""


def in_blocks(n: int, threads: int, of: Callable[[slice], NDArray[Any]]) -> NDArray[Any]:
    """What `of` gives for all of n rows, some of them at a time; the same with however many threads."""
    ends = [*range(_BLOCK, n - _BLOCK + 1, _BLOCK), n]
    blocks = [slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(of, blocks)))
