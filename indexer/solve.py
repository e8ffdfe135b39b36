"""From a family's sketches to the edges of its Model Trees: a pure function, the same for any order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.components import find_components
from indexer.copies import Copies, group_copies
from indexer.core import DENSE, Core, find_core, measure_tree
from indexer.core_edges import core_edges
from indexer.derived import find_derived
from indexer.derived_edges import derived_edge
from indexer.distance import normalised
from indexer.family import Family
from indexer.large_core import LargeCore, recover_large_core
from indexer.large_edges import large_edges
from indexer.large_measured import LargeMeasured, measure_large
from indexer.memo import Memo
from indexer.merged_tree import merge_rows, name_merges, recover_with_merges
from indexer.metadata import Metadata
from indexer.orphans import adopt
from indexer.pairs import nearest_pairs
from indexer.partial import told_apart
from indexer.roots import WEIGHTS
from indexer.stage import all_stages, infer_stages
from indexer.trained_copies import onto_copies
from indexer.weighing import weigh
from store.pairs import PAIRS
from store.records import Edge, Inferred, Merge

__all__ = ["Component", "group_copies", "is_large", "solve_component", "split"]


@dataclass(frozen=True, slots=True)
class Component:
    """One Model Tree: rows of its family, and what was found."""

    rows: NDArray[np.int64]
    edges: tuple[Edge, ...]
    pairs: Any = field(default_factory=PAIRS.empty_table)
    """Arrow table of `store.pairs.PAIRS`."""
    merges: tuple[Merge, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    """Ancestors that no model is."""
    stages: tuple[str, ...] = ()
    """Training stage of each row; empty where it was not asked for."""
    memory: Mapping[tuple[str, str], tuple[bytes, bytes]] = field(default_factory=dict)
    """Answers that are worth keeping, as of `indexer.memo`."""
    recall: float | None = None
    """Of the lists of nearest in a large component, measured on a sample."""
    standing: Mapping[int, int] = field(default_factory=dict)
    """Child -> parent, ids: further edges, which are what they were when they were last written."""

    def parents(self) -> dict[int, int]:
        """Child -> parent, ids, of all edges."""
        return {**self.standing, **{edge.child_id: edge.parent_id for edge in self.edges}}


def is_large(models: int) -> bool:
    """Is a component of so many models solved by neighbourhoods?"""
    return models > DENSE


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
    stored: Mapping[tuple[str, str], tuple[bytes, bytes]] | None = None,
    dense: int | None = None,
    written: bool = False,
    threads: int = 1,
) -> Component:
    """Solve a family that is one component (see `split`); without `metadata`, from its weights alone.

    `infer` ancestors that are not in it. `root_weights` are those of `indexer.roots.FEATURES`. `stored` are
    answers that were found before, as of `indexer.memo`: with or without them the result is the same.
    Components of more than `dense` models (DENSE unless told) are solved by neighbourhoods. With `written`, those edges
    of such a one that were written with what is stored, and are what they were, are `standing`. What takes longest is
    done by so many `threads`, which changes nothing.
    """
    family = family.alone()
    held = [f"{t.name} {t.shape} {t.samples.shape[1]}" for t in family.tensors]
    memo = Memo(stored, "\n".join([*held, str(family.samples.held.dtype)]), threads)
    equal = Copies(family, metadata)
    copies = equal.by_original()
    originals = np.array(list(copies), np.int64)
    tree = family.take(originals)
    edges: list[Edge] = []
    pairs = PAIRS.empty_table()
    merges: tuple[Merge, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    stage: dict[int, str] = {}
    recall: float | None = None
    standing: Mapping[int, int] = {}
    large = is_large(len(tree)) if dense is None else len(tree) > dense
    if len(tree) > 1:
        measured = measure_large(tree, memo) if large else measure_tree(tree)
        squared, correlation = measured.squared, measured.correlation
        derived = find_derived(tree, squared, correlation, memo)
        weighing = None
        if metadata is not None:
            sources = {int(originals[row]): int(originals[source]) for row, (source, _) in derived.items()}
            weighing = weigh(family, metadata, copies, sources)
        core: Core | LargeCore
        if isinstance(measured, LargeMeasured):
            recall = measured.recall
            core, ancestry = recover_large_core(tree, measured, derived, weighing, memo, root_weights)
            told = large_edges(tree, measured, derived, core, ancestry, weighing, family, originals, memo, written)
            edges, standing, stage = told.told, told.standing, dict(told.stage)
        else:
            core = find_core(tree, measured.squared, derived, None if weighing is None else weighing.prior(), memo)
            apart = told_apart(core.family, core.squared)
            ancestry = recover_with_merges(apart, core.cues, core.merges, core.prior, root_weights, threads)
            inner, inside = core.family, core.squared
            found = core_edges(inner, inside, ancestry, memo)
            trained = name_merges(inner, found, core.merges)
            edges += onto_copies(tree, derived, trained, memo)
            edges += [derived_edge(tree, squared, correlation, row, *found) for row, found in derived.items()]
            if weighing is not None:
                edges = weighing.told(family, edges)
            if infer:
                declared = weighing.confirmed(ancestry.parent) if weighing is not None else None
                edges, inferred = adopt(inner, inside, ancestry.parent, edges, core.cues, set(core.merges), declared)
            falls = {e.child_id: told.value for e in found for told in e.evidence if told.cue == "kurtosis"}
            ids = inner.model_ids.tolist()
            stages = infer_stages(inner, ancestry.parent, inside, lambda _, child: falls.get(ids[child], 0.0))
            stage = dict(zip(ids, stages, strict=True))
            core.cues.keep()
        merges = merge_rows(core.family, core.merges)
        pairs = nearest_pairs(tree, measured.pairs)
    edges += equal.edges()
    tuned = all_stages(family.model_ids.tolist(), stage, edges, standing)
    by_child = tuple(sorted(edges, key=lambda e: e.child_id))
    rows = np.arange(len(family))
    return Component(rows, by_child, pairs, merges, inferred, tuned, memo.used, recall, standing)
