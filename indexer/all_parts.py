"""All components of an architecture, found with no more than a part of its models at hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.components import connect
from indexer.parts import AT_ONCE, Known, Load, related_in
from indexer.shortlist import layout_of, search_vectors
from store.vectors import Vectors, write_vectors

__all__ = ["all_parts"]


def all_parts(
    path: Path, known: Known, load: Load, at_once: int = AT_ONCE, say: Callable[[str], None] = lambda _: None
) -> list[list[int]]:
    """Ids of the members of each component, by the least id of each; writes the file of search vectors at `path`.

    `say` is told how far it is."""
    layout, vectors = _vectors(known, load, at_once)
    write_vectors(path, layout, Vectors(known.ids, known.contents, vectors))
    _, first, copy = np.unique(known.contents, axis=0, return_index=True, return_inverse=True)
    labels = connect(
        vectors,
        lambda a, b: related_in(known, first[a], first[b], load, at_once),
        list(layout.values()),
        first,
        lambda done: say(f"{done:,} of {len(first):,} models compared"),
    )
    members: dict[int, list[int]] = defaultdict(list)
    for model, label in zip(known.ids.tolist(), labels[copy.reshape(-1)].tolist(), strict=True):
        members[label].append(model)
    return list(members.values())


def _vectors(known: Known, load: Load, at_once: int) -> tuple[dict[str, int], NDArray[np.float32]]:
    """(coordinates a tensor, n x D vectors): of a layout that holds what any of the models has."""
    n = len(known.ids)
    layout: dict[str, int] = {}
    vectors = np.empty((n, 0), np.float32)
    while True:
        for first in range(0, n, at_once):
            family = load(known.ids[first : first + at_once].tolist())
            wanted = _merged(layout, layout_of(family))
            if wanted != layout:
                layout = wanted
                vectors = np.empty((n, sum(layout.values())), np.float32)
                if first:
                    # Rarely: a tensor that none before had. What was made before has no place for it.
                    break
            order = np.argsort(family.model_ids, kind="stable")
            vectors[first : first + at_once] = search_vectors(family.take(order), layout)
        else:
            return layout, vectors


def _merged(layout: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Of each tensor what both have: samples are a prefix of the same sequence."""
    return {name: min(layout.get(name, count), other.get(name, count)) for name, count in {**layout, **other}.items()}
