"""Rank of the difference of two models, from their k x k projections: what a merged LoRA leaves behind.

The projection P'WQ is linear, so that of u - v is the difference of the projections, and a difference of rank r keeps
rank min(r, k) for generic signs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from indexer.family import Family

__all__ = ["ROUNDING", "difference_rank"]

# Relative rounding of one stored value, half a unit in the last place.
ROUNDING: Final = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}


def difference_rank(family: Family, a: int, b: int, tensors: Collection[str] | None = None) -> tuple[int, int] | None:
    """(largest rank over the projected tensors that differ, k); None when none is projected or all are equal.

    `tensors` names those to look at, all unless given.

    Singular values below the rounding noise of the stored dtype do not count: adding an update of rank 8 in bfloat16
    leaves a difference of full rank, of which all but 8 directions are rounding.
    """
    ranks: list[int] = []
    k = 0
    for tensor in family.tensors:
        projection = family.projections.get(tensor.name)
        if projection is None or (tensors is not None and tensor.name not in tensors):
            continue
        difference = projection[b].astype(np.float64) - projection[a].astype(np.float64)
        if not np.isfinite(difference).all() or tensor.hashes[a] == tensor.hashes[b]:
            continue
        k = int(np.sqrt(difference.size))
        values = np.linalg.svd(difference.reshape(k, k), compute_uv=False)
        size = np.sqrt(max(tensor.sum_squares[a], tensor.sum_squares[b]) / tensor.elements)
        eps = max(ROUNDING.get(tensor.dtypes[row], 2.0**-24) for row in (a, b))
        # Rounding noise is independent from value to value: a band sum of elements / k^2 values, k x k of them.
        noise = size * eps * np.sqrt(tensor.covered) / k
        floor = 4.0 * np.sqrt(k) * noise + 1e-6 * float(np.abs(projection[a]).max()) * np.sqrt(k)
        ranks.append(int((values > floor).sum()))
        if ranks[-1] == k:
            break
    return (max(ranks), k) if ranks else None
