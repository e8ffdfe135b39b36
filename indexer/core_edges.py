"""Edges of training as records, with what speaks for them."""

from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import Ancestry
from indexer.costs import ancestor_costs
from indexer.cues import CUES, log_odds, measure_cues
from indexer.family import Family
from indexer.memo import Memo
from indexer.relation import trained_relation
from indexer.sparse import Matrix, Sparse
from store.records import Edge, Evidence

__all__ = ["core_edges", "rms"]


def rms(family: Family, squared: float) -> float:
    """Root mean square change of a weight, from a squared distance."""
    return float(np.sqrt(squared / family.elements.sum()))


def core_edges(family: Family, squared: Matrix, ancestry: Ancestry, memo: Memo) -> list[Edge]:
    """The edge of each model of a core that is no root; `squared` is n x n."""
    edges = []
    contents = family.content_hashes
    children = np.flatnonzero(ancestry.parent >= 0)
    roots = _roots(ancestry.parent)
    if isinstance(squared, Sparse):
        parents, others = ancestry.parent[children], ancestry.runner_up[children]
        ends = [(roots[children], parents), (roots[children], children), (parents, children), (others, children)]
        pairs = [*ends, (roots[children], others)]
        squared = squared.with_pairs(*(np.concatenate(end) for end in zip(*pairs, strict=True)))
    for child in children:
        parent, root = int(ancestry.parent[child]), int(roots[child])
        asked = [contents[parent]]
        telling = memo.answer("told", contents[child], asked, lambda: _told(family, parent, int(child)))  # noqa: B023
        relation, *told = json.loads(telling)
        above, below = (int(family.model_ids[row]) in family.quantized for row in (parent, int(child)))
        if below and not above:
            # On uneven lattices, which weights do not show: the file says what was done to them.
            relation = "quantized"
            told.append(("stored", 1.0, 0.0, "its file holds quantised weights, and its parent's does not"))
        runner_up = int(ancestry.runner_up[child])
        evidence = [
            *_ancestor_evidence(family, squared, root, parent, int(child), runner_up),
            *(Evidence(*each) for each in told),
        ]
        edges.append(
            Edge(
                child_id=int(family.model_ids[child]),
                parent_id=int(family.model_ids[parent]),
                relation=relation,
                distance=rms(family, _apart(family, squared, parent, int(child))),
                confidence=float(ancestry.confidence[child]),
                runner_up_id=int(family.model_ids[runner_up]) if runner_up >= 0 else None,
                runner_up_confidence=float(ancestry.runner_up_confidence[child]) if runner_up >= 0 else None,
                evidence=tuple(evidence),
            )
        )
    return edges


def _roots(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """n: the root above each model."""
    roots = np.arange(len(parent))
    while (below := parent[roots] >= 0).any():
        roots = np.where(below, parent[roots], roots)
    return roots


def _apart(family: Family, squared: Matrix, parent: int, child: int) -> float:
    """Squared distance; of two that share no tensor, that of unrelated weights of their sizes."""
    told = float(squared[parent, child])
    return told if np.isfinite(told) else float(family.norms[[parent, child]].sum())


def _ancestor_evidence(
    family: Family, squared: Matrix, root: int, parent: int, child: int, runner_up: int
) -> list[Evidence]:
    """Distance and increment regression: why this parent and not the runner-up."""
    column = ancestor_costs(squared[np.ix_(c := [root, parent, child], c)], 0)[:, 2] if root != parent else None
    own = float(squared[parent, child] if column is None else column[1])
    change = rms(family, _apart(family, squared, parent, child))
    found = [Evidence("distance", change, 0.0, f"weights changed by {change:.3g} (root mean square)")]
    if column is not None and squared[root, parent] > 0 and np.isfinite(squared[root, [parent, child]]).all():
        g = (squared[root, parent] + squared[root, child] - squared[parent, child]) / (2 * squared[root, parent])
        found.append(
            Evidence(
                "increment_regression",
                float(g),
                0.0,
                f"the child holds {g:.2f} of what the parent has learned since {family.names[root]} (1 for a parent)",
            )
        )
    if runner_up >= 0 and np.isfinite(squared[runner_up, child]):
        other = float(squared[runner_up, child])
        if runner_up not in (root, child) and root not in (child, runner_up):
            other = float(ancestor_costs(squared[np.ix_(c := [root, runner_up, child], c)], 0)[1, 2])
        if np.isfinite(own) and own > 0 and other > 0:
            found.append(
                Evidence(
                    "nearness",
                    other / own,
                    float(np.log(other / own)),
                    f"{family.names[runner_up]} would cost {other / own:.3g} times as much",
                )
            )
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
