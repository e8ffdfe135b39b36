"""Edges of training as records, with what speaks for them."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import Ancestry
from indexer.beside import remember_pairs, with_remembered
from indexer.costs import PRIVATE
from indexer.cues import CUES, log_odds, measure_cues
from indexer.family import Family
from indexer.memo import Memo
from indexer.relation import trained_relation
from indexer.sparse import Matrix, Sparse
from store.records import Edge, Evidence

__all__ = ["core_edges", "rms", "roots_above"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def rms(family: Family, squared: float) -> float:
    """Root mean square change of a weight, from a squared distance."""
    return float(np.sqrt(squared / family.elements.sum()))


def core_edges(
    family: Family, squared: Matrix, ancestry: Ancestry, memo: Memo, children: Ints | None = None
) -> list[Edge]:
    """The edge of each model of a core that is no root, or of some `children`; `squared` is n x n."""
    edges = []
    contents = family.content_hashes
    ids = family.model_ids.tolist()
    children = np.flatnonzero(ancestry.parent >= 0) if children is None else children
    roots = roots_above(ancestry.parent)[children]
    if isinstance(squared, Sparse):
        squared = _with_ends(with_remembered(family, squared, memo), ancestry, roots, children)
        remember_pairs(family, squared, memo)
    around = _around(squared, ancestry, roots, children)
    total = float(family.elements.sum())

    def telling(child: int) -> bytes:
        parent = int(ancestry.parent[child])
        return memo.answer("told", contents[child], [contents[parent]], lambda: _told(family, parent, child))

    memo.ahead(children.tolist(), lambda some: [telling(child) for child in some])
    for at, child in enumerate(children.tolist()):
        parent, runner_up = int(ancestry.parent[child]), int(ancestry.runner_up[child])
        relation, *told = json.loads(telling(child))
        if ids[child] in family.quantized and ids[parent] not in family.quantized:
            # On uneven lattices, which weights do not show: the file says what was done to them.
            relation = "quantized"
            told.append(("stored", 1.0, 0.0, "its file holds quantised weights, and its parent's does not"))
        apart = float(around.squared[at])
        # Two that share no tensor are as far apart as unrelated weights of their sizes.
        size = apart if np.isfinite(apart) else float(family.norms[[parent, child]].sum())
        distance = float(np.sqrt(size / total))
        evidence = [
            Evidence("distance", distance, 0.0, f"weights changed by {distance:.3g} (root mean square)"),
            *_ancestor_evidence(family, around, at, runner_up),
            *(Evidence(*each) for each in told),
        ]
        edges.append(
            Edge(
                child_id=ids[child],
                parent_id=ids[parent],
                relation=relation,
                distance=distance,
                confidence=float(ancestry.confidence[child]),
                runner_up_id=ids[runner_up] if runner_up >= 0 else None,
                runner_up_confidence=float(ancestry.runner_up_confidence[child]) if runner_up >= 0 else None,
                evidence=tuple(evidence),
            )
        )
    return edges


@dataclass(frozen=True, slots=True)
class _Around:
    """What lies around k edges, by squared distances; k each."""

    root: NDArray[np.int64]
    squared: NDArray[np.float64]
    """Of parent and child."""
    known: NDArray[np.bool_]
    """Is the parent another than the root, with finite distances to the root of both?"""
    cost: NDArray[np.float64]
    """M_r of the edge (`indexer.ancestry`)."""
    held: NDArray[np.float64]
    """How much of what the parent has learned since the root the child holds; where `known`."""
    other: NDArray[np.float64]
    """M_r of the edge from the runner-up, not finite where there is none."""


def _with_ends(squared: Sparse, ancestry: Ancestry, roots: Ints, children: Ints) -> Sparse:
    """The same with all pairs at hand that `_around` asks for."""
    parents, others = ancestry.parent[children], ancestry.runner_up[children]
    pairs = [(roots, parents), (roots, children), (parents, children), (others, children), (roots, others)]
    return squared.with_pairs(*(np.concatenate(end) for end in zip(*pairs, strict=True)))


def _around(squared: Matrix, ancestry: Ancestry, roots: Ints, children: Ints) -> _Around:
    parents, others = ancestry.parent[children], ancestry.runner_up[children]
    of_parent, of_child, apart = squared[roots, parents], squared[roots, children], squared[parents, children]
    told = np.where(others >= 0, others, children)
    of_other, beyond = squared[roots, told], squared[told, children]
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = np.where(parents == roots, apart, apart + PRIVATE * np.maximum(_private(of_parent, apart, of_child), 0))
        plain = (told == roots) | (children == roots)
        other = np.where(plain, beyond, beyond + PRIVATE * np.maximum(_private(of_other, beyond, of_child), 0))
        held = (of_parent + of_child - apart) / (2 * of_parent)
    known = (parents != roots) & (of_parent > 0) & np.isfinite(of_parent) & np.isfinite(of_child)
    return _Around(roots, apart, known, cost, held, np.where((others >= 0) & np.isfinite(beyond), other, np.nan))


def _private(of_parent: Floats, apart: Floats, of_child: Floats) -> Floats:
    """Squared length of what a parent has and its child has not (see `ancestor_costs`)."""
    return np.asarray(np.nan_to_num(0.5 * (of_parent + apart - of_child), nan=0.0, posinf=np.inf))


def roots_above(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """n: the root above each model."""
    roots = np.arange(len(parent))
    while (below := parent[roots] >= 0).any():
        roots = np.where(below, parent[roots], roots)
    return roots


def _ancestor_evidence(family: Family, around: _Around, at: int, runner_up: int) -> list[Evidence]:
    """Distance and increment regression: why this parent and not the runner-up."""
    found = []
    if around.known[at]:
        held = float(around.held[at])
        root = family.names[around.root[at]]
        says = f"the child holds {held:.2f} of what the parent has learned since {root} (1 for a parent)"
        found.append(Evidence("increment_regression", held, 0.0, says))
    own, other = float(around.cost[at]), float(around.other[at])
    if runner_up >= 0 and 0 < own < np.inf and 0 < other < np.inf:
        says = f"{family.names[runner_up]} would cost {other / own:.3g} times as much"
        found.append(Evidence("nearness", other / own, float(np.log(other / own)), says))
    return found


def _told(family: Family, parent: int, child: int) -> bytes:
    """JSON of the relation and the rows of evidence that follow from the two models alone."""
    relation, told = trained_relation(family, parent, child)
    cues = [
        Evidence(name, value, log_odds(name, value) if name != "kurtosis" else 0.0, CUES[name].says)
        for name, value in measure_cues(family, parent, child).items()
        if value != 0.0
    ]
    return json.dumps([relation, *(astuple(evidence) for evidence in (*cues, *told))]).encode()
