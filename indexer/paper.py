"""Mode `paper`: equations 1 to 6 of MoTHer as printed, to reproduce its tables and to be compared against.

(Horwitz, Shul, Hoshen: On the Origin of Llamas: Model Tree Heritage Recovery, 2024.) The paper is given the training
stage of every model and the number of clusters; here the stage is an argument and the number of clusters is that of the
components found. From sketches, the maximum of equation 1 runs over the sampled coordinates.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from indexer.family import Family
from indexer.mdst import dense_minimum_directed_spanning_tree
from indexer.rank import difference_rank
from indexer.solve import Component
from store.records import Edge, Evidence

__all__ = ["cluster", "directional_score", "l_ft", "l_lora", "merged", "solve_paper"]

C: Final = 0.3
"""The constant of lambda = c mean(D)."""


def l_ft(family: Family) -> NDArray[np.float64]:
    """Equation 1, n x n: max over layers of max(u_l - v_l), weights of each layer min-max normalised over the tree.

    Section 6: "we min-max normalize the weights of each layer according to the layer minimum and maximum value of all
    models in that Model Tree". Printed without an absolute value; the larger of both directions makes it symmetric.
    """
    distance = np.zeros((len(family), len(family)))
    for tensor in family.measured:
        low, high = tensor.minimum.min(), tensor.maximum.max()
        if high > low:
            x = (tensor.samples - low) / (high - low)
            distance = np.maximum(distance, np.stack([np.abs(x - row).max(axis=1) for row in x]))
    return distance


def l_lora(family: Family) -> NDArray[np.float64] | None:
    """Equation 2, n x n: max over the projected layers of rank(u_l - v_l); None when none is projected."""
    n = len(family)
    if not family.projections:
        return None
    distance = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            rank = difference_rank(family, i, j)
            distance[i, j] = distance[j, i] = rank[0] if rank else 0
    return distance


def directional_score(family: Family) -> NDArray[np.float64]:
    """Equation 3, n: the sum over layers of E[(u_l - mean)^4] / E[(u_l - mean)^2]^2."""
    return np.asarray(np.nansum(family.kurtosis, axis=1))


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


def cluster(family: Family, clusters: int) -> NDArray[np.int64]:
    """Section 5.2: hierarchical clustering (scipy's defaults) on pairwise L1 distance, the number of clusters known."""
    if len(family) == 1 or clusters <= 1:
        return np.zeros(len(family), np.int64)
    scale = np.repeat(family.elements / np.diff(family.starts), np.diff(family.starts))
    return np.asarray(fcluster(linkage(pdist(family.samples * scale, "cityblock")), clusters, "maxclust") - 1)


def solve_paper(
    family: Family, clusters: int, generalization: NDArray[np.bool_] | None = None
) -> list[tuple[NDArray[np.int64], Component]]:
    """(rows, component) of each cluster. All models are specialization unless told otherwise, as in section 6."""
    stage = np.zeros(len(family), bool) if generalization is None else generalization
    labels = cluster(family, clusters)
    result = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        result.append((rows, _solve_tree(family.take(rows), stage[rows])))
    return result


def _solve_tree(family: Family, stage: NDArray[np.bool_]) -> Component:
    n = len(family)
    if n == 1:
        return Component(np.arange(1), (), ())
    ranks = l_lora(family)
    k = max((int(np.sqrt(values.shape[1])) for values in family.projections.values()), default=0)
    # Models are LoRA-tuned, where the paper is told so, if neighbours differ by a low rank.
    lora = ranks is not None and bool((np.where(ranks > 0, ranks, np.inf).min(axis=1) <= k // 2).all())
    distance = ranks if lora and ranks is not None else l_ft(family)
    score = directional_score(family)
    parent = dense_minimum_directed_spanning_tree(merged(distance, score, stage))
    edges = []
    for child in np.flatnonzero(parent >= 0):
        up = int(parent[child])
        edges.append(
            Edge(
                child_id=int(family.model_ids[child]),
                parent_id=int(family.model_ids[up]),
                relation="lora" if lora else "finetune",
                distance=float(distance[up, child]),
                # The paper's method has no probability: an edge is there or it is not.
                confidence=1.0,
                runner_up_id=None,
                runner_up_confidence=None,
                evidence=(
                    Evidence("l_lora" if lora else "l_ft", float(distance[up, child]), 0.0, "distance, eq. 1 or 2"),
                    Evidence(
                        "kurtosis", float(score[up] - score[child]), 0.0, "fall of the directional weight score, eq. 3"
                    ),
                ),
            )
        )
    return Component(np.arange(n), tuple(sorted(edges, key=lambda e: e.child_id)), ())
