"""Components that are found with a part of the models at hand are those that all models at once give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.all_parts import all_parts
from indexer.batches import LONE, batched, by_row
from indexer.components import connect
from indexer.family import Family
from indexer.parts import Known, known_models
from indexer.solve import split
from store.vectors import stored_layout
from tests.grown import family_of, grow, start
from tests.stored_vectors import read_vectors
from tests.weights import Weights


def zoo() -> Family:
    """Four families, one of them alone; a copy; models without a tensor that the others have."""
    models: dict[str, Weights] = {"alone": start(9)}
    for seed in range(3):
        models[f"{seed}"] = start(seed)
        for child in range(4):
            parent = models[f"{seed}"] if child < 2 else models[f"{seed}-0"]
            models[f"{seed}-{child}"] = grow(parent, 10 * seed + child, 0.2)
    models["copy"] = models["1-1"]
    last = sorted(models["2"])[-1]
    models |= {name: {t: w for t, w in models[name].items() if t != last} for name in ("2-1", "2-3")}
    return family_of(models)


def known_of(family: Family) -> Known:
    order = np.argsort(family.model_ids)
    contents = [blake3(family.content_hashes[row].encode()).hexdigest(length=16) for row in order]
    return known_models(family.model_ids[order], contents, np.zeros(len(family), np.int64))


@pytest.mark.parametrize("at_once", [2, 3, 5, 16, 100])
def test_parts_of_some_models_at_a_time(at_once: int, tmp_path: Path) -> None:
    family = zoo()
    most = 0

    def load(ids: Sequence[int]) -> Family:
        nonlocal most
        most = max(most, len(set(ids)))
        return family.take(np.flatnonzero(np.isin(family.model_ids, ids))).alone()

    known = known_of(family)
    path = tmp_path / "vectors"
    found = all_parts(path, known, load, at_once)
    wanted = {frozenset(family.model_ids[rows].tolist()) for rows in split(family)}
    assert {frozenset(part) for part in found} == wanted
    assert len(wanted) == 4
    assert most <= at_once
    layout = stored_layout(path)
    assert layout is not None
    kept = read_vectors(path, layout, known.ids, known.contents)
    assert kept is not None
    assert len(kept.model_ids) == len(family)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.3, 1.0))
def test_all_that_are_related_are_connected(seed: int, n: int, right: float) -> None:
    """Against the definition, where only some of the likely pairs are related."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = np.triu((vectors @ vectors.T >= 0.3) & (rng.random((n, n)) < right), 1)
    truth |= truth.T
    labels = connect(vectors, lambda a, b: truth[a, b])
    reach = truth | np.eye(n, dtype=bool)
    for _ in range(n):
        reach = reach @ reach
    assert ((labels[:, None] == labels[None, :]) == reach).all()
    assert labels[0] == 0
    assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))


def test_batches_hold_every_part_once() -> None:
    parts = [[1], [2, 3], [4, 5, 6, 7], [8], [9]]
    assert list(batched(parts, 3)) == [[[1], [2, 3]], [[4, 5, 6, 7]], [[8], [9]]]
    assert list(batched([], 3)) == []
    assert list(batched(parts, 3, lambda part: part == [2, 3])) == [[[2, 3]], [[1]], [[4, 5, 6, 7]], [[8], [9]]]


def test_a_large_component_is_solved_by_itself_where_few_are_new() -> None:
    part = list(range(LONE))
    assert by_row(part, set(range(LONE // 4)))
    assert not by_row(part, set(range(LONE // 4 + 1)))
    assert not by_row(part[1:], set())
