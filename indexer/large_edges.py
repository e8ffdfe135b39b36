"""The edges of a large component, and which of them say what they said when they were last written.

All that an edge says follows from its two ends, the runner-up, the root and its confidences, from the copies of what
lies above it, and from cards. A digest of these is remembered with each edge (`indexer.memo`): what follows from the
same is not told again. The edges of models whose cards name a base are told each time, as are those of merges and of
what hangs on a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.ancestry import Ancestry
from indexer.answered import Answered, along, digests, lists_of
from indexer.core_edges import core_edges, roots_above
from indexer.derived_edges import derived_edge
from indexer.family import Family
from indexer.large_core import LargeCore
from indexer.large_measured import LargeMeasured
from indexer.memo import Memo
from indexer.merged_tree import name_merges
from indexer.roots import parents_first
from indexer.stage import initialised, stages_along
from indexer.trained_copies import onto_copies
from indexer.weighing import Weighing
from store.records import Edge

__all__ = ["WRITTEN", "LargeEdges", "large_edges"]

WRITTEN: Final = "written"
"""Kind of the record (`indexer.answered`) of edges: it holds for those that are written with it."""
_RELATIONS: Final = ("cast", "quantized", "pruned")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class LargeEdges:
    """Of a component without copies."""

    told: list[Edge]
    standing: Mapping[int, int] = field(default_factory=dict)
    """Child -> parent, ids: edges that are what they were when they were last written."""
    stage: Mapping[int, str] = field(default_factory=dict)
    """Id -> training stage, of the models of the core."""


def large_edges(
    tree: Family,
    measured: LargeMeasured,
    derived: Mapping[int, tuple[int, str]],
    core: LargeCore,
    ancestry: Ancestry,
    weighing: Weighing | None,
    family: Family,
    originals: Ints,
    memo: Memo,
    written: bool,
) -> LargeEdges:
    """The edges of a component: `tree` are the rows `originals` of its `family`, without copies, and `derived` those of
    them that were computed from others. With `written`, edges that memo says were written need not be told."""
    rows = np.array([row for row in range(len(tree)) if row not in derived], np.int64)
    parent = np.full(len(tree), -1)
    parent[rows] = np.where(ancestry.parent >= 0, rows[ancestry.parent], -1)
    for row, (source, _) in derived.items():
        parent[row] = source
    told = _inputs(tree, rows, derived, core, ancestry, weighing, originals, memo)
    answered = Answered(tree, memo)
    noted, steps = answered.known(WRITTEN, told, np.dtype((np.float64, 2)))
    plain = _plain(rows, core, weighing, originals) & (parent >= 0)
    stands = noted & plain if written else np.zeros(len(tree), bool)
    children = np.flatnonzero((ancestry.parent >= 0) & ~stands[rows])
    memo.want(core.family.content_hashes[child] for child in children.tolist())
    found = core_edges(core.family, core.squared, ancestry, memo, children)
    trained = name_merges(core.family, found, core.merges)
    inner = dict(zip(rows.tolist(), parent[rows].tolist(), strict=True))
    others = {row: up for row, up in inner.items() if up >= 0}
    edges = onto_copies(tree, derived, trained, memo, others)
    edges += [
        derived_edge(tree, measured.squared, measured.correlation, row, *of)
        for row, of in derived.items()
        if not stands[row]
    ]
    if weighing is not None:
        every = enumerate(parent.tolist())
        edges = weighing.told(family, edges, {int(originals[row]): int(originals[up]) for row, up in every if up >= 0})
    steps[rows] = _steps(core, ancestry, found, children, steps[rows])
    answered.keep(WRITTEN, told, steps, _written(tree, np.where(plain, parent, -1), stands, edges))
    ids = tree.model_ids
    fall, step = steps[rows].T
    stage = stages_along(ancestry.parent, initialised(core.family), step, fall)
    standing = np.flatnonzero(stands)
    return LargeEdges(
        edges,
        dict(zip(ids[standing].tolist(), ids[parent[standing]].tolist(), strict=True)),
        dict(zip(core.family.model_ids.tolist(), stage, strict=True)),
    )


def _inputs(
    tree: Family,
    rows: Ints,
    derived: Mapping[int, tuple[int, str]],
    core: LargeCore,
    ancestry: Ancestry,
    weighing: Weighing | None,
    originals: Ints,
    memo: Memo,
) -> Words:
    """n x 2: a digest of all that each model's edge follows from, but for cards that name a base."""
    n, m = len(tree), len(rows)
    keys = _who(tree, np.zeros(n) if weighing is None else weighing.created[originals])
    chances = np.stack([ancestry.confidence, ancestry.runner_up_confidence], axis=1).view(np.uint64)
    of = np.array([[source, n + 2 * m + _RELATIONS.index(how)] for source, how in derived.values()], np.int64)
    relations = np.arange(2 * len(_RELATIONS), dtype=np.uint64).reshape(-1, 2)
    copied = _copied(np.concatenate([keys, np.zeros((2 * m, 2), np.uint64), relations]), rows, derived, of)
    chain = along(copied, ancestry.parent, parents_first(ancestry.parent))
    keys = np.concatenate([keys, chances, chain, relations])
    inputs = np.full((n, 6), -1)
    own = np.arange(m)

    def there(at: Ints, values: Ints) -> Ints:
        return np.where(at >= 0, values[at], -1)

    inputs[rows] = np.stack(
        [
            rows,
            there(ancestry.parent, rows),
            there(ancestry.runner_up, rows),
            rows[roots_above(ancestry.parent)],
            n + own,
            there(ancestry.parent, n + m + own),
        ],
        axis=1,
    )
    if derived:
        inputs[list(derived), 0] = list(derived)
        inputs[list(derived), 1:3] = of
    return digests(keys, *lists_of(inputs), memo.asked + bytes([weighing is not None]))


def _who(tree: Family, created: Floats) -> Words:
    """n x 2: a digest of all that is said of each model."""
    told = zip(tree.model_ids.tolist(), tree.names, tree.content_hashes, created.tolist(), strict=True)
    quantized = tree.quantized
    digested = (blake3(f"{each} {each[0] in quantized}".encode()).digest(16) for each in told)
    return np.frombuffer(b"".join(digested), np.uint64).reshape(-1, 2)


def _copied(keys: Words, rows: Ints, derived: Mapping[int, tuple[int, str]], of: Ints) -> Words:
    """m x 2: a digest of each model of the core with what was computed from it, the same of all that have no copy."""
    copies: dict[int, list[int]] = {}
    for row, (source, relation) in zip(derived, of.tolist(), strict=True):
        copies.setdefault(source, [source]).extend((row, relation))
    lists = [copies.get(row, []) for row in rows.tolist()]
    starts = np.cumsum([0, *map(len, lists)])
    return digests(keys, starts, np.array([row for each in lists for row in each], np.int64))


def _plain(rows: Ints, core: LargeCore, weighing: Weighing | None, originals: Ints) -> NDArray[np.bool_]:
    """n: whose edge follows from what `_inputs` digests: no merge, and no card that names a base."""
    plain = np.ones(len(originals), bool)
    plain[rows[list(core.merges)]] = False
    if weighing is not None:
        plain &= ~np.array([bool(weighing.declared[row]) for row in originals.tolist()], bool)
    return plain


def _steps(core: LargeCore, ancestry: Ancestry, found: Iterable[Edge], children: Ints, noted: Floats) -> Floats:
    """m x 2: mean sign of the fall of kurtosis from each model's parent, and its squared distance from it: measured of
    `children`, whose edges were found anew, and of the others as they were `noted`."""
    fall, step = noted.T.copy()
    above = np.where(ancestry.parent >= 0, ancestry.parent, np.arange(len(noted)))
    fall[children], step[children] = 0.0, core.squared[above[children], children]
    fall[ancestry.parent < 0], step[ancestry.parent < 0] = 0.0, 0.0
    place = {int(core.family.model_ids[child]): child for child in children.tolist()}
    for edge in found:
        for each in edge.evidence:
            if each.cue == "kurtosis":
                fall[place[edge.child_id]] = each.value
    return np.stack([fall, step], axis=1)


def _written(tree: Family, parent: Ints, stands: NDArray[np.bool_], edges: Iterable[Edge]) -> NDArray[np.bool_]:
    """n: whose edges are written as their inputs say: those that stand, and those that were told, not moved, and follow
    from their inputs, as those to a `parent` do."""
    holds = stands.copy()
    ids = tree.model_ids.tolist()
    place = dict(zip(ids, range(len(ids)), strict=True))
    for edge in edges:
        row = place[edge.child_id]
        up = int(parent[row])
        holds[row] = up >= 0 and edge.parent_id == ids[up]
    return holds
