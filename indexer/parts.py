"""Which components an update has to solve, found without reading the models that it does not touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from indexer.components import FIRM, LEAST_SHARED, are_related
from indexer.distance import RELATED
from indexer.family import Family
from indexer.links import join
from indexer.shortlist import search_vectors
from indexer.solve import split
from store.vectors import Vectors, append_vectors, let_go, mapped_vectors, placed_vectors, shown_vectors, stored_layout

__all__ = [
    "AT_ONCE",
    "Known",
    "Load",
    "Placed",
    "how_many",
    "known_models",
    "part_of_one",
    "related_in",
    "touched_parts",
    "vectors_path",
]

HELD: Final = 1 << 30
"""Bytes of samples that are looked at together."""
AT_ONCE: Final = 8_192
"""Models of which that are the samples, of 32,768 in float32 each: more than which no sketch has."""

_FEW: Final = 64
_SPREAD: Final = 1.25
"""Times as many vectors that a newcomer may be compared with as there are models."""
_NEW = -(1 << 62)
_FALLEN = -(1 << 61)
"""Labels of components that have no root yet: this less the id of a member. Roots have ids, of either sign."""

Ints = NDArray[np.int64]
Load = Callable[[Sequence[int]], Family]
"""Model ids -> their family, in the order of `Known.ids` or any that does not depend on what was asked before."""


@dataclass(frozen=True, slots=True)
class Known:
    """The n live models of an architecture, by rising id."""

    ids: Ints
    contents: NDArray[np.uint64]
    """n x 2."""
    roots: Ints
    """n: id of the root of each model's tree as it was last found, 0 for those that are new."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What has become of placed models since the last update."""

    gone: Mapping[int, int]
    """Model that is no longer there -> its root."""
    stale: frozenset[int]
    """Roots of trees with a model of which a date was corrected."""
    links: Callable[[Sequence[int]], tuple[Ints, Ints, NDArray[np.float64], NDArray[np.float64]]]
    """Models -> stored pairs among them: ids, ids, correlations, shares that both have."""
    paths: Callable[[Sequence[int]], list[tuple[int, list[int]]]]
    """Models -> each with its stored line of descent, root first."""


def vectors_path(graph: Path, architecture: str) -> Path:
    """Where a graph keeps an architecture's search vectors."""
    return graph / "shortlist" / f"{architecture}.vectors"


def known_models(ids: Ints, contents: Sequence[str], roots: Ints) -> Known:
    """`Known` from content hashes as they are stored, 32 hex digits each."""
    return Known(ids, np.frombuffer(bytes.fromhex("".join(contents)), "<u8").reshape(-1, 2).astype(np.uint64), roots)


def touched_parts(path: Path, known: Known, placed: Placed, load: Load) -> list[list[int]] | None:
    """Ids of the members of each component that has to be solved again; None when all have to be looked at: most are
    new, or the file of search vectors at `path` is missing or of another layout.

    A component is touched when a model joined or left it, when it fell apart, or when it is stale.
    """
    new = np.flatnonzero(known.roots == 0)
    if 2 * new.size > len(known.ids) > _FEW:
        return None
    labels, touched = _without_gone(known, placed, load)
    if new.size:
        found = _vectors(path, known, load)
        if found is None:
            return None
        labels = _with_new(known, labels, new, *found, load)
        touched |= set(labels[new].tolist())
    members: dict[int, list[int]] = defaultdict(list)
    for at in np.flatnonzero(np.isin(labels, sorted(touched))):
        members[int(labels[at])].append(int(known.ids[at]))
    return [members[label] for label in sorted(members)]


def part_of_one(path: Path, known: Known, content: NDArray[np.uint64], with_new: Load) -> list[int] | None:
    """Ids of the members of the components that hold a relative of one more model of this content; None when all have
    to be looked at.

    `with_new` gives the family of some models and the new one, whose id is 0. Writes nothing.
    """
    layout = stored_layout(path)
    new = with_new([])
    if layout is None or not known.roots.all():
        return None
    found = placed_vectors(path, layout, known.ids, known.contents, 1)
    if found is None or not found[1].all():
        return None
    if not {tensor.name for tensor in new.measured} <= set(layout):
        return None
    vectors = found[0]
    vectors[-1:] = search_vectors(new, layout)
    labels = np.append(known.roots, _NEW)
    copies = np.flatnonzero((known.contents == content).all(axis=1))
    labels[-1] = labels[copies[0]] if copies.size else labels[-1]

    def related(a: Ints, b: Ints) -> NDArray[np.bool_]:
        asked = np.unique(np.minimum(a, b))
        family = with_new(known.ids[asked].tolist())
        place = {int(model_id): row for row, model_id in enumerate(family.model_ids)}
        rows = np.array([place[int(known.ids[at])] for at in np.minimum(a, b)], np.int64)
        return are_related(family, np.full(len(rows), place[0]), rows)

    joined = join(vectors, labels, np.array([len(known.ids)]), related, list(layout.values()))
    return [int(i) for i in known.ids[joined[:-1] == joined[-1]]]


def how_many(ids: Sequence[int], load: Load) -> int:
    """Of these models, how many have their samples looked at together: as a few of them say."""
    if len(ids) <= AT_ONCE:
        return AT_ONCE
    few = load(ids[:_FEW])
    return max(AT_ONCE, HELD * len(few) // max(1, few.samples.held.nbytes))


def related_in(
    known: Known, a: Ints, b: Ints, load: Load, at_once: int = AT_ONCE, least: float = RELATED
) -> NDArray[np.bool_]:
    """P: whether the models at P pairs of places in `known` correlate by `least`; so many are loaded at once."""
    found = np.zeros(len(a), bool)
    places = np.unique(np.concatenate([a, b]))
    half = max(1, at_once if places.size <= at_once else at_once // 2)
    blocks = np.sort(np.searchsorted(places, np.stack([a, b])) // half, axis=0)
    for one, other in np.unique(blocks, axis=1).T:
        # All that lie between two blocks: so each block is loaded with each other once.
        some = np.flatnonzero((blocks[0] == one) & (blocks[1] == other))
        asked = np.unique(np.concatenate([a[some], b[some]]))
        family = load(known.ids[asked].tolist())
        place = np.empty(len(family), np.int64)
        place[np.searchsorted(known.ids[asked], family.model_ids)] = np.arange(len(family))
        ends = place[np.searchsorted(asked, a[some])], place[np.searchsorted(asked, b[some])]
        found[some] = are_related(family, *ends, least)
    return found


def _without_gone(known: Known, placed: Placed, load: Load) -> tuple[Ints, set[int]]:
    """(labels of components without those that are gone, each new model on its own; the labels that are touched)."""
    labels = np.where(known.roots == 0, _NEW - known.ids, known.roots)
    touched = set(placed.stale)
    for root in sorted(set(placed.gone.values())):
        at = np.flatnonzero(known.roots == root)
        touched.add(root)
        if not at.size:
            continue
        parts = _fallen(known, at, placed, load)
        for part in parts if len(parts) > 1 else []:
            label = _FALLEN - min(part)
            labels[np.searchsorted(known.ids, sorted(part))] = label
            touched.add(label)
    return labels, touched


def _fallen(known: Known, at: Ints, placed: Placed, load: Load) -> list[set[int]]:
    """The parts of a component some of whose members are gone: one, if stored pairs, equal contents or relatives along
    the tree still hold it firmly together; else as all pairs of its members say."""
    ids = known.ids[at].tolist()
    a, b, like, both = placed.links(ids)
    firm = (like >= FIRM) & (both > LEAST_SHARED)
    # One of those of equal content stands for all.
    _, first, which = np.unique(known.contents[at], axis=0, return_index=True, return_inverse=True)
    told = [np.searchsorted(known.ids[at], [a[firm], b[firm]]), np.stack([first[which.ravel()], np.arange(len(at))])]
    parts = _connected(len(at), told)
    if parts.max() > 0:
        # Nearest pairs join what is close; what holds those groups together are edges of the tree.
        group = dict(zip(ids, parts.tolist(), strict=True))
        likely = [pair for pair in _neighbours(ids, placed.paths(ids)) if group[pair[0]] != group[pair[1]]]
        a, b = np.searchsorted(known.ids, np.array(likely, np.int64).reshape(-1, 2)).T
        related = related_in(known, a, b, load, least=FIRM) if likely else np.zeros(0, bool)
        parts = _connected(len(at), [*told, np.searchsorted(at, [a[related], b[related]])])
    if parts.max() == 0:
        return [set(ids)]
    family = load(ids)
    return [set(family.model_ids[rows].tolist()) for rows in split(family)]


def _connected(n: int, pairs: Sequence[Ints]) -> Ints:
    """n: which of the sets each is in that chains of pairs (2 x P each) connect."""
    a, b = np.concatenate(pairs, axis=1)
    return np.asarray(connected_components(coo_array((np.ones(a.size, bool), (a, b)), (n, n)), directed=False)[1])


def _neighbours(ids: Sequence[int], paths: Sequence[tuple[int, list[int]]]) -> list[tuple[int, int]]:
    """Each model with the nearest above it that is still there; those that have none, in a row."""
    there = set(ids)
    pairs, tops = [], []
    for model, path in paths:
        above = next((i for i in reversed(path[:-1]) if i in there), None)
        if above is None:
            tops.append(model)
        else:
            pairs.append((model, above))
    return [*pairs, *pairwise(tops)]


def _vectors(path: Path, known: Known, load: Load) -> tuple[NDArray[np.float32], list[int], Ints] | None:
    """(vectors, how many of their coordinates are of each tensor, n: which are those of the live models), those of new
    ones made and added to the file; None when the file is no use."""
    layout = stored_layout(path)
    if layout is None:
        return None
    found = mapped_vectors(path, layout, known.ids, known.contents)
    if found is None:
        return None
    values, places = found
    missing = known.ids[places < 0]
    if missing.size:
        family = load(missing.tolist())
        if not {t.name for t in family.measured} <= set(layout):
            return None
        made = search_vectors(family, layout)
        at = np.searchsorted(known.ids, family.model_ids)
        first = append_vectors(path, layout, Vectors(family.model_ids, known.contents[at], made))
        places[at] = first + np.arange(len(at))
        shown = shown_vectors(path, layout)
        if shown is None or (places < 0).any():
            return None
        values = shown
    first, last = int(places.min()), int(places.max()) + 1
    # Where few of the file's models are gone, nothing is copied.
    if last - first <= _SPREAD * len(places):
        return values[first:last], list(layout.values()), places - first
    return values[places], list(layout.values()), np.arange(len(places))


def _with_new(
    known: Known, labels: Ints, new: Ints, vectors: NDArray[np.float32], sizes: Sequence[int], rows: Ints, load: Load
) -> Ints:
    labels = labels.copy()
    by_content: dict[bytes, int] = {}
    is_new = np.isin(np.arange(len(labels)), new)
    # Placed ones first: a copy joins what it is a copy of.
    equal = np.flatnonzero(np.isin(known.contents[:, 0], known.contents[new, 0]) & ~is_new)
    for at in [*equal.tolist(), *new.tolist()]:
        labels[at] = by_content.setdefault(known.contents[at].tobytes(), int(labels[at]))
    joined = join(vectors, labels, new, lambda a, b: related_in(known, a, b, load), sizes, rows)
    let_go(vectors)
    return joined
