"""Mode `paper`: equations 1 to 6 of MoTHer as printed, to reproduce its tables and to be compared against.

(Horwitz, Shul, Hoshen: On the Origin of Llamas: Model Tree Heritage Recovery, 2024.) The paper is given the training
stage of every model, whether it was tuned by LoRA, and the number of clusters; here the first two are arguments and the
number of clusters is that of the components found. From sketches, the maximum of equation 1 runs over the sampled
coordinates, and the rank of equation 2 over the projected layers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from indexer.family import Family, TensorColumn
from indexer.mdst import dense_minimum_directed_spanning_tree
from indexer.rank import difference_rank
from indexer.solve import Component
from store.records import Edge, Evidence

__all__ = [
    "C",
    "cluster",
    "clusters_of",
    "dense_layers",
    "directional_score",
    "l_1",
    "l_ft",
    "l_lora",
    "layer_differences",
    "layer_kind",
    "merged",
    "recover_tree",
    "solve_paper",
    "tuned_layers",
]

C: Final = 0.3
"""The constant of lambda = c mean(D)."""

_KINDS: Final = {
    **dict.fromkeys(("query", "q_proj", "to_q", "q_lin", "q", "wq"), "query"),
    **dict.fromkeys(("key", "k_proj", "to_k", "k_lin", "k", "wk"), "key"),
    **dict.fromkeys(("value", "v_proj", "to_v", "v_lin", "v", "wv"), "value"),
    **dict.fromkeys(("qkv", "qkv_proj", "c_attn", "query_key_value", "in_proj", "in_proj_weight", "Wqkv"), "fused"),
}
_CHUNK: Final = 1024
"""Coordinates at a time: those of a hundred models stay in a core's second-level cache."""


def layer_kind(name: str) -> str:
    """The kind of layer (figure 19) that a weight's name says: query, key, value, fused (all three), else dense."""
    return next((_KINDS[part] for part in name.split(".") if part in _KINDS), "dense")


def dense_layers(family: Family) -> tuple[TensorColumn, ...]:
    """L of equations 1 and 3 (section 6.1): "all the dense layers", less those that are bit-equal in all models; where
    all of them are, `tuned_layers`."""
    return tuple(t for t in _changed(family) if layer_kind(t.name) == "dense") or tuned_layers(family)


def tuned_layers(family: Family) -> tuple[TensorColumn, ...]:
    """L of equation 2 (section 6.1): "all the LoRA fine-tuned value layers", those that are not bit-equal in all
    models; where no value layer was tuned, whatever was; where nothing was, all layers."""
    tuned = _changed(family)
    return tuple(t for t in tuned if layer_kind(t.name) in ("value", "fused")) or tuned or family.measured


def _changed(family: Family) -> tuple[TensorColumn, ...]:
    return tuple(t for t in family.measured if len(set(t.hashes) - {b""}) > 1)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan", "ninf"})
def layer_differences(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of one layer's n x m samples: n x n each of the largest |u - v| and the sum of |u - v|."""
    n, m = x.shape
    largest, absolute = np.zeros((n, n)), np.zeros((n, n))
    for start in range(0, m, _CHUNK):
        stop = min(m, start + _CHUNK)
        for i in range(n):
            u = x[i, start:stop]
            for j in range(i):
                v = x[j, start:stop]
                top, total = 0.0, 0.0
                for c in range(u.size):
                    d = abs(u[c] - v[c])
                    top = max(top, d)
                    total += d
                largest[i, j] = max(largest[i, j], top)
                absolute[i, j] += total
    for i in range(n):
        for j in range(i):
            largest[j, i], absolute[j, i] = largest[i, j], absolute[i, j]
    return largest, absolute


def l_ft(family: Family) -> NDArray[np.float64]:
    """Equation 1, n x n: max over dense layers of max(u_l - v_l), each layer min-max normalised over the tree.

    Section 6: "we min-max normalize the weights of each layer according to the layer minimum and maximum value of all
    models in that Model Tree". Printed without an absolute value; the larger of both directions makes it symmetric.
    A layer that either model lacks says nothing.
    """
    distance = np.zeros((len(family), len(family)))
    for tensor in dense_layers(family):
        here = tensor.present
        low, high = tensor.minimum[here].min(), tensor.maximum[here].max()
        if high > low:
            largest = layer_differences(tensor.samples[:])[0] * np.outer(here, here)
            distance = np.maximum(distance, largest / (high - low))
    return distance


def l_lora(family: Family) -> NDArray[np.float64] | None:
    """Equation 2, n x n: max over the tuned layers that are projected of rank(u_l - v_l); None when none is.

    Where the sketch projected no value layer, the ranks are those of what it did project.
    """
    n = len(family)
    if not family.projections:
        return None
    names = {tensor.name for tensor in tuned_layers(family)} & set(family.projections) or set(family.projections)
    distance = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            rank = difference_rank(family, i, j, names)
            distance[i, j] = distance[j, i] = rank[0] if rank else 0
    return distance


def l_1(family: Family) -> NDArray[np.float64]:
    """Section 5.2, n x n: the L1 distance over all weights that both models have, scaled up to all coordinates."""
    total = np.zeros((len(family), len(family)))
    values = np.zeros_like(total)
    for tensor in family.measured:
        both = np.outer(tensor.present, tensor.present)
        total += layer_differences(tensor.samples[:])[1] * both * (tensor.elements / tensor.samples.shape[1])
        values += tensor.elements * both
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(values > 0, total * (family.elements.sum() / values), np.inf)
    # A pair with nothing in common is farther apart than any other.
    finite = scaled[np.isfinite(scaled)]
    return np.asarray(np.where(np.isfinite(scaled), scaled, 2 * finite.max(initial=0.5)))


def directional_score(family: Family, layers: tuple[TensorColumn, ...] | None = None) -> NDArray[np.float64]:
    """Equation 3, n: the sum over layers of E[(u_l - mean)^4] / E[(u_l - mean)^2]^2; the dense layers unless told."""
    return np.asarray(np.nansum([t.kurtosis for t in layers or dense_layers(family)], axis=0))


def merged(
    distance: NDArray[np.float64], score: NDArray[np.float64], generalization: NDArray[np.bool_], c: float = C
) -> NDArray[np.float64]:
    """Equations 4 to 6, n x n: M_ij = D_ij + lambda (K_ij xor T_ij), for the edge i -> j; infinite on the diagonal.

    K_ij = 1 if k(v_i) < k(v_j). T_ij = 1 if the child j was trained in the generalization stage. lambda is c times the
    mean of D with its zero diagonal: the infinite one of equation 4 has no mean.
    """
    K = score[:, None] < score[None, :]
    T = np.broadcast_to(generalization[None, :], K.shape)
    M = distance + c * distance.mean() * (K ^ T)
    np.fill_diagonal(M, np.inf)
    return np.asarray(M)


def recover_tree(
    distance: NDArray[np.float64],
    score: NDArray[np.float64],
    generalization: NDArray[np.bool_] | None = None,
    c: float = C,
) -> NDArray[np.int64]:
    """Parent of each of n models, -1 for the root: the minimum directed spanning tree of M. All models are
    specialization unless told otherwise, as in section 6."""
    stage = np.zeros(len(score), bool) if generalization is None else generalization
    if len(score) == 1:
        return np.full(1, -1, np.int64)
    return np.asarray(dense_minimum_directed_spanning_tree(merged(distance, score, stage, c)))


def clusters_of(distance: NDArray[np.float64], clusters: int) -> NDArray[np.int64]:
    """Section 6: hierarchical clustering of an n x n distance with scipy's defaults, the number of clusters known."""
    if len(distance) == 1 or clusters <= 1:
        return np.zeros(len(distance), np.int64)
    return np.asarray(fcluster(linkage(squareform(distance, checks=False)), clusters, "maxclust") - 1)


def cluster(family: Family, clusters: int) -> NDArray[np.int64]:
    """Section 5.2: clusters by pairwise L1 distance, a label a model."""
    return clusters_of(l_1(family), clusters) if clusters > 1 else np.zeros(len(family), np.int64)


def solve_paper(
    family: Family,
    clusters: int,
    generalization: NDArray[np.bool_] | None = None,
    c: float = C,
    lora: bool | None = None,
) -> list[tuple[NDArray[np.int64], Component]]:
    """(rows, component) of each cluster. All models are specialization unless told otherwise, as in section 6.

    `lora` says which distance to use, as the paper is told; None: what the ranks look like, tree by tree.
    """
    stage = np.zeros(len(family), bool) if generalization is None else generalization
    labels = cluster(family, clusters)
    result = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        result.append((rows, _solve_tree(family.take(rows), stage[rows], c, lora)))
    return result


def _looks_tuned_by_lora(family: Family, ranks: NDArray[np.float64]) -> bool:
    """Every model differs from its nearest by a low rank, the layers that are compared being projected."""
    k = max(int(np.sqrt(values.shape[1])) for values in family.projections.values())
    return bool((np.where(ranks > 0, ranks, np.inf).min(axis=1) <= k // 2).all())


def _solve_tree(family: Family, stage: NDArray[np.bool_], c: float, lora: bool | None) -> Component:
    n = len(family)
    if n == 1:
        return Component(np.arange(1), ())
    ranks = None if lora is False else l_lora(family)
    low_rank = ranks is not None and (lora or _looks_tuned_by_lora(family, ranks))
    distance = ranks if ranks is not None and low_rank else l_ft(family)
    score = directional_score(family, tuned_layers(family) if low_rank else None)
    parent = recover_tree(distance, score, stage, c)
    edges = []
    for child in np.flatnonzero(parent >= 0):
        up = int(parent[child])
        edges.append(
            Edge(
                child_id=int(family.model_ids[child]),
                parent_id=int(family.model_ids[up]),
                relation="lora" if low_rank else "finetune",
                distance=float(distance[up, child]),
                # The paper's method has no probability: an edge is there or it is not.
                confidence=1.0,
                runner_up_id=None,
                runner_up_confidence=None,
                evidence=(
                    Evidence("l_lora" if low_rank else "l_ft", float(distance[up, child]), 0.0, "distance, eq. 1 or 2"),
                    Evidence(
                        "kurtosis", float(score[up] - score[child]), 0.0, "fall of the directional weight score, eq. 3"
                    ),
                ),
            )
        )
    return Component(np.arange(n), tuple(sorted(edges, key=lambda e: e.child_id)))
