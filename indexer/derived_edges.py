"""Edges of casts, quantised and pruned copies as records."""

from __future__ import annotations

from typing import Final

import numpy as np

from indexer.core_edges import rms
from indexer.family import Family
from indexer.sparse import Matrix
from store.records import Edge, Evidence

__all__ = ["derived_edge"]

DERIVED_CONFIDENCE: Final = 0.98
"""Of casts, quantised and pruned copies: 99.4% of quantised models on the Hub are leaves (Model Atlas, 2025)."""


def derived_edge(
    tree: Family,
    squared: Matrix,
    correlation: Matrix,
    child: int,
    parent: int,
    relation: str,
) -> Edge:
    """The edge of a row of a component without copies from the one that it was computed from."""
    says = {
        "cast": "rounding the parent to a shorter float gives the child",
        "quantized": "the child lies on an even lattice around the parent",
        "pruned": "the child is the parent with more zeros",
    }[relation]
    distance = rms(tree, squared[parent, child])
    size = rms(tree, float(tree.norms[parent].sum()))
    if distance > size:
        # Stored in units of a scale that lies elsewhere: what the correlation leaves unexplained.
        distance = size * float(np.sqrt(max(0.0, 1 - correlation[parent, child] ** 2)))
    return Edge(
        child_id=int(tree.model_ids[child]),
        parent_id=int(tree.model_ids[parent]),
        relation=relation,
        distance=distance,
        confidence=DERIVED_CONFIDENCE,
        runner_up_id=None,
        runner_up_confidence=None,
        evidence=(Evidence(relation, 1.0, float(np.log(DERIVED_CONFIDENCE / (1 - DERIVED_CONFIDENCE))), says),),
    )
