"""Models that were trained from a cast, quantised or pruned copy: they hang on the copy, not on what it was made from.

Copies take no part in the search for parents. But whoever is trained from one keeps what rounding or pruning did to it:
with m the copy's source, d the copy and c the child, <c - m, d - m> / |d - m|^2 is 1, and it is 0 for a child of m.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.memo import Memo
from indexer.relation import trained_relation
from store.records import Edge, Evidence

__all__ = ["held_share", "onto_copies"]

_CERTAIN: Final = 5.0
"""Standard errors that the share must stand above 0."""
_WHOLE: Final = 0.1
"""How far from 1 the share may lie beyond three standard errors: weight decay takes from it."""
_ROUGH: Final = 0.6
"""How far from 1 a share may lie to have its error computed: beyond that its error is too large to say anything."""
_LIKELIHOOD: Final = 0.98
"""That the child was trained from the copy, where the share says so."""


def held_share(
    source: NDArray[np.float64], copy: NDArray[np.float64], child: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """(share of what made the copy that the child holds, its standard error); M samples each, and weights of samples.

    The slope of child - source on copy - source, with White's standard error: changes differ in size between layers.
    """
    made, grown = copy - source, child - source
    size = float((weights * made**2).sum())
    if size <= 0:
        return 0.0, np.inf
    share = float((weights * made * grown).sum()) / size
    left = grown - share * made
    return share, float(np.sqrt((weights**2 * made**2 * left**2).sum())) / size


def onto_copies(
    family: Family,
    derived: Mapping[int, tuple[int, str]],
    edges: Sequence[Edge],
    memo: Memo | None = None,
    others: Mapping[int, int] | None = None,
) -> list[Edge]:
    """The edges of training, moved to a copy where the child holds what made the copy and its parent does not.

    `derived` is row -> (row that it was computed from, relation). Only copies of what the child descends from are
    asked, so no circle can arise; of several the nearest is taken. `others` is child -> parent, rows, of edges that are
    not among these.
    """
    if not derived:
        return list(edges)
    row_of = {int(model_id): row for row, model_id in enumerate(family.model_ids)}
    children = {row_of[edge.child_id]: row_of[edge.parent_id] for edge in edges}
    parent = {**(others or {}), **children}
    weights = np.repeat(family.elements / np.diff(family.starts), np.diff(family.starts))
    asked = {*children, *children.values()} & parent.keys()
    held = _held(family, derived, parent, sorted(asked), weights, memo or Memo())
    found = []
    for edge in edges:
        child = row_of[edge.child_id]
        above = held.get(parent[child], {})
        options = {copy: share for copy, share in held.get(child, {}).items() if copy not in above}
        if options and edge.relation != "merge":
            apart = {c: float((weights * (family.samples[child] - family.samples[c]) ** 2).sum()) for c in options}
            copy = min(options, key=lambda c: (apart[c], c))
            edge = _moved(family, edge, child, copy, derived[copy][1], options[copy], apart[copy])
        found.append(edge)
    return found


def _held(
    family: Family,
    derived: Mapping[int, tuple[int, str]],
    parent: Mapping[int, int],
    children: Sequence[int],
    weights: NDArray[np.float64],
    memo: Memo,
) -> dict[int, dict[int, float]]:
    """Child -> copy -> share, where one of some children holds what made the copy, of copies of its ancestors."""
    copies: dict[int, list[int]] = {}
    for copy, (source, _) in derived.items():
        copies.setdefault(source, []).append(copy)
    keys = list(map(bytes, family.content_keys))
    held: dict[int, dict[int, float]] = {}
    asked: dict[int, bytes] = {}
    below: dict[int, list[int]] = {}
    above: dict[int, list[int]] = {}
    memo.want(family.content_hashes[child] for child in children)
    for child in children:
        above[child] = [source for source in _ancestors(parent, child) if source in copies]
        if not above[child]:
            continue
        told = [keys[row] + derived[row][1].encode() if row in derived else keys[row]
                for source in above[child] for row in (source, *copies[source])]  # fmt: skip
        digest, known = memo.look("held", family.content_hashes[child], b"".join(told))
        if known is None:
            asked[child] = digest
            for source in above[child]:
                below.setdefault(source, []).append(child)
        else:
            every = [copy for source in above[child] for copy in copies[source]]
            held[child] = {every[at]: share for at, share in json.loads(known)}
    for source, some in below.items():
        for child, found in _of_source(family, derived, source, copies[source], some, weights).items():
            held.setdefault(child, {}).update(found)
    for child, digest in asked.items():
        every = [copy for source in above[child] for copy in copies[source]]
        shares = sorted((every.index(copy), share) for copy, share in held.get(child, {}).items())
        memo.keep("held", family.content_hashes[child], digest, json.dumps(shares).encode())
    return held


def _ancestors(parent: Mapping[int, int], row: int) -> list[int]:
    """All above a row."""
    found, seen = [], {row}
    while (row := parent.get(row, row)) not in seen:
        found.append(row)
        seen.add(row)
    return found


def _of_source(
    family: Family,
    derived: Mapping[int, tuple[int, str]],
    source: int,
    copies: Sequence[int],
    children: Sequence[int],
    weights: NDArray[np.float64],
) -> dict[int, dict[int, float]]:
    """Child -> copy -> share, of copies of one source."""
    x = family.samples
    held: dict[int, dict[int, float]] = {}
    made = x[list(copies)] - x[source]
    size = np.maximum((weights * made**2).sum(axis=1), 1e-300)
    rough = np.array([made @ (weights * (x[child] - x[source])) / size for child in children])
    for i, k in np.argwhere(np.abs(rough - 1) <= _ROUGH):
        child, copy = children[int(i)], copies[int(k)]
        # A child of the source that was stored as shortly as the copy holds the same rounding for that reason.
        stored = derived[copy][1] == "cast" and family.precision[child] >= family.precision[copy]
        if stored or not family.present[[source, copy, child]].all():
            continue
        share, error = held_share(x[source], x[copy], x[child], weights)
        if share >= _CERTAIN * error and abs(share - 1) <= _WHOLE + 3 * error:
            held.setdefault(child, {})[copy] = share
    return held


def _moved(family: Family, edge: Edge, child: int, copy: int, made_by: str, share: float, apart: float) -> Edge:
    """The edge onto the copy, at its own squared distance `apart`; what it was before is the runner-up."""
    how = {"cast": "rounding", "quantized": "quantisation", "pruned": "pruning"}[made_by]
    relation, told = trained_relation(family, copy, child)
    says = f"the child holds {share:.2f} of what {how} changed in {family.names[copy]}"
    odds = float(np.log(_LIKELIHOOD / (1 - _LIKELIHOOD)))
    distance = float(np.sqrt(apart / family.elements.sum()))
    kept = [e for e in edge.evidence if e.cue not in ("distance", "rank", "rank_at_least", "frozen", "nearness")]
    first = Evidence("distance", distance, 0.0, f"weights changed by {distance:.3g} (root mean square)")
    return replace(
        edge,
        parent_id=int(family.model_ids[copy]),
        relation=relation,
        distance=distance,
        confidence=edge.confidence * _LIKELIHOOD,
        runner_up_id=edge.parent_id,
        runner_up_confidence=edge.confidence * (1 - _LIKELIHOOD),
        evidence=(first, *kept, Evidence("copy_held", share, odds, says), *told),
    )
