"""Relatives side by side: so that whole blocks of models are of one component, and need not be compared."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

__all__ = ["bunched"]

_ASKED: Final = 512
"""Models that all are compared with: a family that fills blocks has several among them."""
_BLOCK: Final = 4096


def bunched(vectors: NDArray[np.float32], rows: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Order of n rows: those that are as alike as `least` to one of a few, or to one that is so alike to it, come one
    after another. Others stay in their order, at the end.

    A guess that costs nothing where it is wrong: what is not compared is decided later, by who is joined.
    """
    asked = np.linspace(0, len(rows) - 1, min(_ASKED, len(rows))).astype(np.int64)
    few = np.ascontiguousarray(vectors[rows[asked]].T)
    bunch = np.empty(len(rows), np.int64)
    for first in range(0, len(rows), _BLOCK):
        likeness = vectors[rows[first : first + _BLOCK]] @ few
        best = likeness.argmax(axis=1)
        bunch[first : first + _BLOCK] = np.where(likeness[np.arange(len(best)), best] >= least, best, -1)
    _, joined = connected_components(few.T @ few >= least, directed=False)
    return np.argsort(np.where(bunch < 0, len(asked), joined[bunch]), kind="stable")
