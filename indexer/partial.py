"""Children of which only a part was trained: the rest is bit-equal to the parent, by the content hash."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from store.records import Evidence

__all__ = ["frozen_evidence", "told_apart"]

_BLOCK = re.compile(r"(?:^|\.)(\d+)\.")


def frozen_evidence(family: Family, parent: int, child: int) -> Evidence | None:
    """What of the parent the child still has bit by bit; None when all weights moved.

    Over the tensors of the backbone that both have. Where every weight stayed, vectors (biases, norms) or what is no
    backbone at all, a head say, were trained.
    """
    weights = {"weight", "embedding"}
    shared = [t for t in family.tensors if t.present[parent] and t.present[child]]
    counted = [t for t in shared if t.role in weights] or [t for t in shared if t.role == "vector"]
    if not counted:
        return None
    frozen = [t.hashes[parent] == t.hashes[child] for t in counted]
    if not any(frozen):
        return None
    share = sum(t.elements for t, still in zip(counted, frozen, strict=True) if still)
    moved = len(counted) - sum(frozen)
    if moved:
        what = _places([t.name for t in counted], frozen)
        says = f"{what} frozen; {moved} of {len(counted)} weight tensors moved"
    else:
        vectors = sum(t.hashes[parent] != t.hashes[child] for t in shared if t.role == "vector")
        says = "all weights frozen; " + (f"{vectors} biases or norms moved" if vectors else "only the head moved")
    return Evidence("frozen", share / sum(t.elements for t in counted), 0.0, says)


def _places(names: Sequence[str], frozen: Sequence[bool]) -> str:
    """In a few words which of the tensors are frozen: whole blocks as ranges, then how many others."""
    blocks: dict[int, list[bool]] = {}
    loose: list[bool] = []
    for name, still in zip(names, frozen, strict=True):
        number = _BLOCK.search(name)
        if number:
            blocks.setdefault(int(number.group(1)), []).append(still)
        else:
            loose.append(still)
    whole = sorted(block for block, still in blocks.items() if all(still))
    said = []
    if whole:
        ranges = _ranges(whole)
        said.append(f"block {ranges}" if len(whole) == 1 else f"blocks {ranges}")
    partly = sum(sum(still) for still in blocks.values() if not all(still))
    if partly:
        said.append(f"{partly} {'other ' if whole else ''}tensor{'s' if partly > 1 else ''} in blocks")
    if any(loose):
        stay = [name for name, still in zip(names, frozen, strict=True) if still and not _BLOCK.search(name)]
        said.append(" and ".join(stay) if len(stay) <= 2 else f"{len(stay)} tensors outside blocks")
    return " and ".join(said)


def _ranges(numbers: Sequence[int]) -> str:
    """0-2, 5: ascending numbers as ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def told_apart(family: Family, squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """`squared` (n x n) with models whose weights are equal told apart by their vectors.

    Biases and norms live on scales of their own and take no part in distances. Where nothing else differs they are
    all there is: their distance, scaled to stay far below every distance of weights, still says who lies between whom.
    """
    equal = squared <= 0
    np.fill_diagonal(equal, False)
    vectors = [t for t in family.tensors if t.role == "vector"]
    if not equal.any() or not vectors or all(t.role != "weight" for t in family.measured):
        return squared
    rows = np.flatnonzero(equal.any(axis=1))
    apart = np.zeros((len(rows), len(rows)))
    for t in vectors:
        x = t.samples[rows] / max(float(np.sqrt((t.samples[rows] ** 2).mean())), 1e-300)
        apart += ((x[:, None] - x[None]) ** 2).mean(axis=2) * t.elements
    least = float(squared[squared > 0].min()) if (squared > 0).any() else 1.0
    inside = np.ix_(rows, rows)
    result = squared.copy()
    scaled = 1e-3 * least * apart / max(float(apart.max()), 1e-300)
    result[inside] = np.where(equal[inside], scaled, squared[inside])
    return result
