"""From a family's sketches to the edges of its Model Trees: a pure function, the same for any order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.ancestry import Ancestry, ancestor_costs
from indexer.components import find_components
from indexer.copies import copy_edges, group_copies
from indexer.core import find_core, measure_tree
from indexer.cues import CUES, log_odds
from indexer.derived import find_derived
from indexer.distance import normalised
from indexer.family import Family
from indexer.merged_tree import merge_rows, name_merges, recover_with_merges
from indexer.metadata import Metadata
from indexer.orphans import adopt
from indexer.pairs import nearest_pairs
from indexer.partial import told_apart
from indexer.relation import trained_relation
from indexer.roots import WEIGHTS
from indexer.stage import all_stages, infer_stages
from indexer.trained_copies import onto_copies
from indexer.weighing import weigh
from store.records import Edge, Evidence, Inferred, Merge, Pair

__all__ = ["Component", "group_copies", "solve_component", "split"]

DERIVED_CONFIDENCE: Final = 0.98
"""Of casts, quantised and pruned copies: 99.4% of quantised models on the Hub are leaves (Model Atlas, 2025)."""


@dataclass(frozen=True, slots=True)
class Component:
    """One Model Tree: rows of its family, and what was found."""

    rows: NDArray[np.int64]
    edges: tuple[Edge, ...]
    pairs: tuple[Pair, ...]
    merges: tuple[Merge, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    """Ancestors that no model is."""
    stages: tuple[str, ...] = ()
    """Training stage of each row; empty where it was not asked for."""


def split(family: Family) -> list[NDArray[np.int64]]:
    """Rows of each component, copies included, in the family's order (by name)."""
    copies = group_copies(family)
    originals = np.array(list(copies), np.int64)
    distinct = family.take(originals)
    labels = find_components(distinct, normalised(distinct))
    parts = []
    for label in range(int(labels.max()) + 1 if labels.size else 0):
        rows = [int(row) for row in originals[labels == label]]
        rows += [copy for row in rows for copy in copies[row]]
        parts.append(np.array(sorted(rows), np.int64))
    return parts


def solve_component(
    family: Family,
    metadata: Metadata | None = None,
    *,
    infer: bool = True,
    root_weights: NDArray[np.float64] = WEIGHTS,
) -> Component:
    """Solve a family that is one component (see `split`); without `metadata`, from its weights alone.

    `infer` ancestors that are not in it. `root_weights` are those of `indexer.roots.FEATURES`.
    """
    copies = group_copies(family, metadata)
    originals = np.array(list(copies), np.int64)
    tree = family.take(originals)
    edges: list[Edge] = []
    pairs: tuple[Pair, ...] = ()
    merges: tuple[Merge, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    stage: dict[int, str] = {}
    if len(tree) > 1:
        measured = measure_tree(tree)
        squared, correlation = measured.squared, measured.correlation
        derived = find_derived(tree, squared, correlation)
        weighing = None
        if metadata is not None:
            sources = {int(originals[row]): int(originals[source]) for row, (source, _) in derived.items()}
            weighing = weigh(family, metadata, copies, sources)
        core = find_core(tree, squared, derived, None if weighing is None else weighing.prior())
        inner, inside = core.family, core.squared
        merges = merge_rows(inner, core.merges)
        ancestry = recover_with_merges(told_apart(inner, inside), core.cues, core.merges, core.prior, root_weights)
        trained = name_merges(inner, _core_edges(inner, inside, ancestry, core.cues), core.merges)
        edges += onto_copies(tree, derived, trained)
        edges += [_derived_edge(tree, squared, correlation, row, *found) for row, found in derived.items()]
        if weighing is not None:
            edges = weighing.told(family, edges)
        if infer:
            declared = weighing.confirmed(ancestry.parent) if weighing is not None else None
            edges, inferred = adopt(inner, inside, ancestry.parent, edges, core.cues, set(core.merges), declared)
        stage = dict(zip(inner.model_ids.tolist(), infer_stages(inner, ancestry.parent, inside), strict=True))
        pairs = nearest_pairs(tree, measured.pairs)
    edges += copy_edges(family, metadata)
    stages = all_stages(family.model_ids.tolist(), stage, edges)
    by_child = tuple(sorted(edges, key=lambda e: e.child_id))
    return Component(np.arange(len(family)), by_child, pairs, merges, inferred, stages)


def _rms(family: Family, squared: float) -> float:
    return float(np.sqrt(squared / family.elements.sum()))


def _core_edges(
    family: Family,
    squared: NDArray[np.float64],
    ancestry: Ancestry,
    cues: Callable[[int, int], dict[str, float]],
) -> list[Edge]:
    edges = []
    for child in np.flatnonzero(ancestry.parent >= 0):
        parent = int(ancestry.parent[child])
        root = parent
        while ancestry.parent[root] >= 0:
            root = int(ancestry.parent[root])
        relation, told = trained_relation(family, parent, int(child))
        runner_up = int(ancestry.runner_up[child])
        evidence = [
            *_ancestor_evidence(family, squared, root, parent, int(child), runner_up),
            *(
                Evidence(name, value, log_odds(name, value) if name != "kurtosis" else 0.0, CUES[name].says)
                for name, value in cues(parent, int(child)).items()
                if value != 0.0
            ),
            *told,
        ]
        edges.append(
            Edge(
                child_id=int(family.model_ids[child]),
                parent_id=int(family.model_ids[parent]),
                relation=relation,
                distance=_rms(family, squared[parent, child]),
                confidence=float(ancestry.confidence[child]),
                runner_up_id=int(family.model_ids[runner_up]) if runner_up >= 0 else None,
                runner_up_confidence=float(ancestry.runner_up_confidence[child]) if runner_up >= 0 else None,
                evidence=tuple(evidence),
            )
        )
    return edges


def _ancestor_evidence(
    family: Family, squared: NDArray[np.float64], root: int, parent: int, child: int, runner_up: int
) -> list[Evidence]:
    """Distance and increment regression: why this parent and not the runner-up."""
    column = ancestor_costs(squared[np.ix_(c := [root, parent, child], c)], 0)[:, 2] if root != parent else None
    own = float(squared[parent, child] if column is None else column[1])
    found = [
        Evidence(
            "distance",
            _rms(family, squared[parent, child]),
            0.0,
            f"weights changed by {_rms(family, squared[parent, child]):.3g} (root mean square)",
        )
    ]
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
        if own > 0 and other > 0:
            found.append(
                Evidence(
                    "nearness",
                    other / own,
                    float(np.log(other / own)),
                    f"{family.names[runner_up]} would cost {other / own:.3g} times as much",
                )
            )
    return found


def _derived_edge(
    tree: Family,
    squared: NDArray[np.float64],
    correlation: NDArray[np.float64],
    child: int,
    parent: int,
    relation: str,
) -> Edge:
    says = {
        "cast": "rounding the parent to a shorter float gives the child",
        "quantized": "the child lies on an even lattice around the parent",
        "pruned": "the child is the parent with more zeros",
    }[relation]
    distance = _rms(tree, squared[parent, child])
    size = _rms(tree, float(tree.norms[parent].sum()))
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
