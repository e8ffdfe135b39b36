"""Children that were tuned through low-rank adapters (LoRA) merged into the weights afterwards.

Two things can show it. A low rank that *explains* the difference: a few singular values, and behind a gap no more
energy than rounding leaves. And where the sketch's k x k projection is full, or rounding hides the gap, what adapters
leave alone: everything but a few kinds of matrices, the biases of those very matrices included.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family, TensorColumn
from indexer.rank import ROUNDING
from store.records import Evidence

__all__ = ["adapter_evidence", "adapter_shaped", "explained_rank", "rounding_energy", "told_rank"]

# By how much the last singular value that counts must stand above the first that does not. A trained matrix's values
# fall smoothly, by a tenth or two from one to the next, and pass through the rounding noise without a step.
_GAP: Final = 4.0
# Energy that may be left, in units of the rounding that is expected: the product of the adapters was rounded too.
_LEFT: Final = 4.0
# Least energy of a difference, in the same units, that a rank can explain: of a smaller one all but the first few
# singular values would lie below rounding whatever made it.
_SEEN: Final = 100.0
_QUERY_VALUE: Final = re.compile(r"query|value|(^|[._])(q|v|to_q|to_v|wq|wv)([._]|$)|[qv]_proj|[qv]_lin")


def adapter_evidence(family: Family, parent: int, child: int) -> Evidence | None:
    """What says that the child was tuned through adapters; None when nothing does.

    "rank" has the rank as its value. "rank_at_least" is the answer where the rank itself cannot be told.
    """
    ranks = []
    least = 0
    for tensor in family.tensors:
        projection = family.projections.get(tensor.name)
        if projection is None or tensor.hashes[parent] == tensor.hashes[child]:
            continue
        if not np.isfinite(projection[[parent, child]]).all():
            continue
        difference = projection[child].astype(np.float64) - projection[parent].astype(np.float64)
        noise = _noise(family, tensor, parent, child)
        rank, above = explained_rank(difference, noise)
        ranks.append(rank)
        least = max(least, above)
    if ranks and all(rank is not None for rank in ranks):
        rank = max(rank for rank in ranks if rank is not None)
        return Evidence("rank", float(rank), 0.0, f"the difference has rank {rank}, and what that leaves is rounding")
    if not adapter_shaped(family, parent, child):
        return None
    says = "of the blocks only a few kinds of matrices moved and their own biases did not, as adapters leave it"
    return Evidence("rank_at_least", float(least), 0.0, f"{says}; their rank is {least} or more")


def told_rank(family: Family, a: int, b: int, tensors: int = 4) -> int | None:
    """The largest rank that explains the difference of rows a and b over the first few tensors that differ; None where
    one of them has no low rank, or none differs; 0 where they differ by too little, beside rounding, to tell."""
    ranks: list[int] = []
    for tensor in family.tensors:
        projection = family.projections.get(tensor.name)
        if projection is None or tensor.hashes[a] == tensor.hashes[b] or not np.isfinite(projection[[a, b]]).all():
            continue
        difference = projection[b].astype(np.float64) - projection[a].astype(np.float64)
        noise = _noise(family, tensor, a, b)
        rank, _ = explained_rank(difference, noise)
        seen = float((difference**2).sum()) >= _SEEN * noise
        if rank is None and seen:
            return None
        ranks.append(rank or 0)
        if len(ranks) == tensors:
            break
    return max(ranks, default=None)


def explained_rank(difference: NDArray[np.float64], noise: float) -> tuple[int | None, int]:
    """(rank that explains a k x k projection of a difference, or None; singular values above the noise).

    `difference` holds k * k values, `noise` is the energy (sum of squares) expected of rounding in them. Independent
    noise of energy E over k x k cells has singular values up to about 2 sqrt(E / k). A rank counts when it is at most
    3/4 k, stands on the far side of a gap, and leaves no more energy than rounding does.
    """
    k = int(np.sqrt(difference.size))
    values = np.linalg.svd(difference.reshape(k, k), compute_uv=False)
    edge = 2.0 * float(np.sqrt(noise / k))
    above = int((values > _GAP * edge).sum())
    left = np.cumsum((values**2)[::-1])[::-1]
    gap = values[:-1] >= _GAP * np.maximum(values[1:], edge)
    explained = np.flatnonzero((gap & (left[1:] <= _LEFT * noise))[: 3 * k // 4])
    if not explained.size or left[0] < _SEEN * noise:
        return None, above
    return int(explained[0]) + 1, above


def rounding_energy(values: NDArray[np.float64], dtype: str, precision: int, elements: int) -> float:
    """Sum of squares, over `elements` values, of the errors that rounding to a dtype made; `values` is a sample.

    Errors are even between minus and plus half a unit in the last place: unit^2 / 12 each. `precision` is
    `Family.precision`: many a bfloat16 model was saved as float32.
    """
    half = max(ROUNDING.get(dtype, ROUNDING["F32"]), (0.0, ROUNDING["F16"], ROUNDING["BF16"])[precision])
    size = np.abs(values[values != 0])
    if not size.size:
        return 0.0
    unit = 2.0 * half * 2.0 ** np.floor(np.log2(size))
    return float((unit**2).sum() / values.size / 12 * elements)


def _noise(family: Family, tensor: TensorColumn, parent: int, child: int) -> float:
    """Energy of rounding in the difference of two projections: of the weights, and of the float32 projections."""
    energy = 0.0
    for row in (parent, child):
        precision = int(family.precision[row])
        energy += rounding_energy(tensor.samples[row], tensor.dtypes[row], precision, tensor.covered)
        projection = family.projections[tensor.name][row].astype(np.float64)
        energy += rounding_energy(projection, "F32", 0, projection.size)
    return energy


def adapter_shaped(family: Family, parent: int, child: int) -> bool:
    """Do the tensors that moved look like those that adapters are put on, and the others like those they leave?

    All moved tensors are matrices, of some kinds (names without block numbers) and not of all; each kind moved in the
    same blocks; no bias, norm or embedding moved. Whoever trains a matrix itself trains its bias too: so at least one
    moved matrix has a bias, or the kinds are queries and values, where adapters are put by habit.
    """
    shared = [t for t in family.tensors if t.present[parent] and t.present[child]]
    moved = [t for t in shared if t.hashes[parent] != t.hashes[child]]
    if not moved or any(t.role != "weight" or len(t.shape) != 2 for t in moved):
        return False
    blocks: dict[str, set[str]] = defaultdict(set)
    for t in moved:
        blocks[_kind(t.name)].add("".join(re.findall(r"\d+", t.name)))
    kinds = {_kind(t.name) for t in shared if t.role == "weight" and len(t.shape) == 2}
    if set(blocks) == kinds or len({frozenset(where) for where in blocks.values()}) > 1:
        return False
    names = {t.name for t in shared}
    own_bias = any(re.sub(r"weight(?!.*weight)", "bias", t.name) in names - {t.name} for t in moved)
    return own_bias or all(_QUERY_VALUE.search(kind) for kind in blocks)


def _kind(name: str) -> str:
    return re.sub(r"\d+", "*", name)
