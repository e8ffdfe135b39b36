"""Stages of training: a run goes on, a new run begins, what is tuned stays tuned."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.distance import measure_pairs, normalised
from indexer.stage import STAGES, all_stages, infer_stages, initialised
from store.records import Edge
from tests.grown import family_of, grow, start
from tests.weights import Weights

GENERAL, SPECIAL = STAGES


def stages_of(models: dict[str, Weights], parents: dict[str, str]) -> dict[str, str]:
    family = family_of(models)
    at = {name: row for row, name in enumerate(family.names)}
    parent = np.array([at.get(parents.get(name, ""), -1) for name in family.names])
    a, b = np.triu_indices(len(family), 1)
    squared = np.zeros((len(family), len(family)))
    squared[a, b] = squared[b, a] = measure_pairs(family, normalised(family), a, b).squared
    return dict(zip(family.names, infer_stages(family, parent, squared), strict=True))


def vectors(value: float, seed: int | None = None) -> Weights:
    rng = np.random.default_rng(seed)
    noise = 0.0 if seed is None else rng.standard_normal((4, 96)) * 0.1
    return {f"layers.{i}.norm.weight": (np.full((4, 96), value) + noise)[i].astype(np.float32) for i in range(4)}


def run(steps: list[float], first: Weights, seed: int) -> list[Weights]:
    models = [first]
    for at, step in enumerate(steps):
        weights = {k: w for k, w in models[-1].items() if "norm" not in k}
        models.append(grow(weights, seed + at, step) | vectors(1.0, seed + at))
    return models[1:]


def test_a_run_from_its_initialisation_then_a_tuning() -> None:
    first = start(1) | vectors(1.0)
    pretraining = run([0.3, 0.3, 0.2, 0.1, 0.02], first, 10)
    tuning = run([0.1, 0.05, 0.02], pretraining[-1], 50)
    names = ["e0", *(f"e{i}" for i in range(1, 6)), *(f"f{i}" for i in range(3))]
    models = dict(zip(names, [first, *pretraining, *tuning], strict=True))
    found = stages_of(models, dict(zip(names[1:], names[:-1], strict=True)))
    assert found == {name: GENERAL if name.startswith("e") else SPECIAL for name in names}
    assert initialised(family_of(models)).tolist() == [name == "e0" for name in sorted(names)]


def test_children_of_a_trained_root_are_tuned() -> None:
    root = start(1) | vectors(1.0, 3)
    child = run([0.1], root, 5)[0]
    models = {"root": root, "a": child, "b": run([0.1], root, 6)[0], "a-g": run([0.1], child, 7)[0]}
    found = stages_of(models, {"a": "root", "b": "root", "a-g": "a"})
    assert found == {"root": GENERAL, "a": SPECIAL, "b": SPECIAL, "a-g": SPECIAL}


def test_without_vectors_no_model_counts_as_initialised() -> None:
    assert not initialised(family_of({"a": start(1), "b": start(2)})).any()


@pytest.mark.parametrize("stage", STAGES)
def test_copies_and_casts_have_the_stage_of_their_source(stage: str) -> None:
    edge = Edge(2, 1, "cast", 0.1, 0.98, None, None, ())
    again = Edge(3, 2, "copy", 0.0, 0.5, None, None, ())
    assert all_stages([1, 2, 3, 4], {1: stage}, [edge, again]) == (stage, stage, stage, GENERAL)


def test_copies_of_each_other_end() -> None:
    edges = [Edge(1, 2, "copy", 0.0, 0.5, None, None, ()), Edge(2, 1, "copy", 0.0, 0.5, None, None, ())]
    assert all_stages([1, 2], {}, edges) == (GENERAL, GENERAL)
