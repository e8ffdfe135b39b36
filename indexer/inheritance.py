"""Bit-equal tensors as characters of descent: what is equal was inherited.

Two trainings never reach the same bits by chance, so the models that hold one content of a tensor are connected in the
tree (the infinite-alleles model of population genetics). Of trees that are alike by distance, the true one has the
fewest changes of content along its edges. Frozen layers, biases alone, or single blocks trained: here distances say
little, and inheritance says all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family

__all__ = ["CHANGE", "contents", "inheritance_costs"]

CHANGE: Final = 1.0
"""Cost of a tensor that changes without need; the tensors of one model change together, so each weighs little."""
_LEAST: Final = 8
"""Elements of a tensor that counts: scalars (counters, scales) do meet by chance."""


def contents(family: Family) -> NDArray[np.int64]:
    """T x n: which of its contents each of T tensors has in each model, as a number (-1 for none).

    Tensors whose contents are all different cost the same on any edge and are left out.
    """
    found = []
    for tensor in family.tensors:
        numbers: dict[bytes, int] = {}
        content = np.array([numbers.setdefault(each, len(numbers)) for each in tensor.hashes.tolist()], np.int64)
        content = np.where(tensor.present, content, -1)
        seen = np.bincount(content[content >= 0])
        if tensor.elements < _LEAST or tensor.role not in ("weight", "embedding", "vector") or seen.max(initial=0) < 2:
            continue
        found.append(content)
    return np.array(found, np.int64).reshape(len(found), len(family))


def inheritance_costs(family: Family) -> NDArray[np.float64]:
    """(n + 1) x n costs of u -> v, the least of each v 0; a root has none (last row). n models, copies left out."""
    n = len(family)
    changes = np.zeros((n, n))
    for content in contents(family):
        changes += content[:, None] != content[None, :]
    np.fill_diagonal(changes, np.inf)
    least = changes.min(axis=0)
    costs = CHANGE * np.where(np.isfinite(changes), changes - np.where(np.isfinite(least), least, 0.0), 0.0)
    return np.concatenate([costs, np.zeros((1, n))])
