"""Merges come out with their parents and coefficients; what was trained or copied is none."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.combination import units
from indexer.merge import find_merges
from indexer.solve import solve_component
from store.records import Merge
from tests.grown import family_of, grow, parents_of, start
from tests.weights import Weights

Found = dict[str, tuple[dict[str, float], str]]


def family() -> dict[str, Weights]:
    """
    root ─┬─ c0 ─┬─ c0-g0
          │      └─ c0-g1
          ├─ c1 ─┬─ c1-g0
          │      └─ c1-g1
          └─ c2 ── c2-g0
    """
    root = start(1)
    models = {"root": root}
    for c in range(3):
        models[f"c{c}"] = grow(root, 10 + c, 0.1 + 0.03 * c, 0.01 * c)
        for g in range(2 if c < 2 else 1):
            models[f"c{c}-g{g}"] = grow(models[f"c{c}"], 100 + 10 * c + g, 0.1, 0.01)
    return models


def stored(weights: Weights, dtype: type | None) -> Weights:
    return {k: w.astype(dtype).astype(np.float32) if dtype else w.astype(np.float32) for k, w in weights.items()}


def mixed(*parts: tuple[Weights, float]) -> Weights:
    """Linear combination in float32, a rounding a step."""
    return {k: np.asarray(sum(np.float32(c) * w[k] for w, c in parts), np.float32) for k in parts[0][0]}


def slerp(p: Weights, q: Weights, share: float) -> Weights:
    result = {}
    for at, name in enumerate(p):
        t = share * (0.5 + at / len(p))
        a, b = p[name].astype(np.float64), q[name].astype(np.float64)
        angle = np.arccos((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
        result[name] = ((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)).astype(np.float32)
    return result


def ties(base: Weights, parts: list[Weights], density: float, weights: list[float], scale: float) -> Weights:
    result = {}
    heavy = np.array(weights)[:, None, None]
    for name, r in base.items():
        changes = np.stack([part[name] - r for part in parts])
        for change in changes:
            change[np.abs(change) < np.quantile(np.abs(change), 1 - density)] = 0
        kept = (np.sign(changes) == np.sign((heavy * changes).sum(axis=0))) & (changes != 0)
        mean = (heavy * changes * kept).sum(axis=0) / np.maximum((heavy * kept).sum(axis=0), 1e-9)
        result[name] = np.asarray(r + np.float32(scale) * mean, np.float32)
    return result


def dare(base: Weights, parts: list[Weights], drop: float, weight: float) -> Weights:
    rng = np.random.default_rng(3)
    result = {}
    for name, r in base.items():
        total = sum((p[name] - r) * (rng.random(r.shape) >= drop) * np.float32(weight / (1 - drop)) for p in parts)
        result[name] = np.asarray(r + total, np.float32)
    return result


def merges_of(models: dict[str, Weights]) -> Found:
    """Child -> ({parent: coefficient}, method)."""
    sketched = family_of(models)
    names = dict(zip(sketched.model_ids.tolist(), sketched.names, strict=True))
    found: Found = {}
    for merge in solve_component(sketched).merges:
        shares, _ = found.setdefault(names[merge.child_id], ({}, merge.method))
        shares[names[merge.parent_id]] = merge.coefficient
    return found


LINEAR = {
    "two": {"c0": 0.5, "c1": 0.5},
    "uneven": {"c0-g0": 0.3, "c2": 0.7},
    "soup": {"c0": 0.25, "c1": 0.25, "c2": 0.25, "c1-g0": 0.25},
    "between": {"root": 0.4, "c2-g0": 0.6},
    "task": {"c0": 0.8, "c1": 0.8},
    "tasks": {"c0": 0.6, "c1": 0.7, "c2": 0.5},
}


@pytest.mark.parametrize("dtype", [None, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", LINEAR)
def test_linear_combinations(kind: str, dtype: type | None) -> None:
    models = {name: stored(w, dtype) for name, w in family().items()}
    parts = dict(LINEAR[kind])
    if kind.startswith("task"):
        parts["root"] = 1 - sum(parts.values())
    models["a-merge"] = stored(mixed(*((models[name], c) for name, c in parts.items())), dtype)
    found = merges_of(models)
    assert set(found) == {"a-merge"}
    shares, method = found["a-merge"]
    assert shares == pytest.approx(LINEAR[kind], abs=0.01)
    assert method == ("task_arithmetic" if kind.startswith("task") else "linear")


def test_spherical_interpolation() -> None:
    models = family()
    models["a-merge"] = slerp(models["c0"], models["c2"], 0.4)
    shares, method = merges_of(models)["a-merge"]
    assert method == "slerp"
    assert set(shares) == {"c0", "c2"}
    assert shares["c0"] > shares["c2"] > 0.3


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.7, 0.3), (0.5, 0.3, 0.2)])
def test_ties(weights: tuple[float, ...], scale: float) -> None:
    models = family()
    parts = [f"c{i}" for i in range(len(weights))]
    models["a-merge"] = ties(models["root"], [models[name] for name in parts], 0.4, list(weights), scale)
    shares, method = merges_of(models)["a-merge"]
    assert method == "ties"
    assert shares == pytest.approx({name: scale * w for name, w in zip(parts, weights, strict=True)}, abs=0.01)


@pytest.mark.parametrize("drop", [0.5, 0.9])
def test_dare(drop: float) -> None:
    models = family()
    models["a-merge"] = dare(models["root"], [models["c0"], models["c1-g0"]], drop, 0.6)
    shares, method = merges_of(models)["a-merge"]
    assert method == "dare"
    assert shares == pytest.approx({"c0": 0.6, "c1-g0": 0.6}, abs=0.03)


def test_dare_of_one_change_names_the_base_too() -> None:
    models = family()
    models["a-merge"] = dare(models["c0"], [models["c0-g0"]], 0.5, 0.6)
    shares, method = merges_of(models)["a-merge"]
    assert method == "dare"
    assert shares == pytest.approx({"c0-g0": 0.6, "c0": 0.4}, abs=0.03)


@pytest.mark.parametrize("dtype", [None, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("step", [0.1, 0.002])
def test_trained_children_are_no_merges(step: float, dtype: type | None) -> None:
    """Chains, fans, siblings that drift together, decay alone, LoRA, frozen layers: in float32 and shorter."""
    rng = np.random.default_rng(0)
    root = start(2, layers=4)
    drift = {k: step * np.std(w) * rng.standard_normal(w.shape) for k, w in root.items()}
    models = {"root": root, "decayed": {k: np.float32(0.97) * w for k, w in root.items()}}
    for i in range(4):
        models[f"chain{i}"] = grow(models[f"chain{i - 1}"] if i else root, i, step, 0.01)
        models[f"sibling{i}"] = grow(root, 20 + i, step, drift=drift)
        models[f"lora{i}"] = {
            k: w
            + np.float32(step * np.std(w)) * (rng.standard_normal((len(w), 4)) @ rng.standard_normal((4, w.shape[1])))
            for k, w in root.items()
        }
        trained = grow(root, 40 + i, step)
        models[f"frozen{i}"] = {k: trained[k] if at == i else w for at, (k, w) in enumerate(root.items())}
    models = {name: stored(w, dtype) for name, w in models.items()}
    assert merges_of(models) == {}


def test_copies_casts_quantised_and_pruned_are_no_merges() -> None:
    models = family()
    c1 = models["c1"]
    models["copy"] = {k: w.copy() for k, w in c1.items()}
    models["half"] = {k: w.astype(np.float16) for k, w in c1.items()}
    models["int8"] = {k: np.asarray(np.round(w / (s := np.abs(w).max() / 127)) * s, np.float32) for k, w in c1.items()}
    models["pruned"] = {
        k: np.asarray(np.where(np.abs(w) > np.quantile(np.abs(w), 0.5), w, 0), np.float32) for k, w in c1.items()
    }
    assert merges_of(models) == {}


def test_a_merge_of_a_merge() -> None:
    models = family()
    models["a-one"] = mixed((models["c0"], 0.5), (models["c1"], 0.5))
    models["a-two"] = grow(models["a-one"], 77, 0.1)
    models["b"] = mixed((models["a-two"], 0.5), (models["c2"], 0.5))
    found = merges_of(models)
    assert found["b"][0] == pytest.approx({"a-two": 0.5, "c2": 0.5}, abs=0.01)
    assert set(found) == {"a-one", "b"}
    # What was trained from a merge is its child, and the rest of the tree is where it was.
    edges = parents_of(family_of(models))
    assert edges["a-two"] == ("a-one", "finetune")
    assert edges["b"][1] == edges["a-one"][1] == "merge"
    assert edges["a-one"][0] in ("c0", "c1")
    assert {name: edges[name][0] for name in ("c0", "c1", "c2")} == dict.fromkeys(("c0", "c1", "c2"), "root")


def test_the_main_parent_has_the_largest_share() -> None:
    models = family()
    models["a-merge"] = mixed((models["c0"], 0.35), (models["c1-g1"], 0.65))
    sketched = family_of(models)
    (edge,) = [e for e in solve_component(sketched).edges if e.relation == "merge"]
    assert sketched.names[sketched.model_ids.tolist().index(edge.parent_id)] == "c1-g1"
    assert edge.runner_up_id is None
    assert any("0.65 c1-g1 + 0.35 c0" in e.says for e in edge.evidence)
    assert solve_component(sketched).merges[0] == Merge(edge.child_id, edge.parent_id, 0.65, "linear")


def test_a_merge_without_its_parents_is_not_found() -> None:
    models = family()
    models["a-merge"] = mixed((models["c0-g0"], 0.5), (models.pop("c1-g0"), 0.5))
    assert merges_of(models) == {}


def test_too_few_models() -> None:
    models = {"root": start(1)}
    models["child"] = grow(models["root"], 1)
    sketched = family_of(models)
    assert find_merges(sketched, np.array([[0.0, 1.0], [1.0, 0.0]])) == {}


@pytest.mark.parametrize(("precision", "dtype"), [(0, np.float32), (1, np.float16), (2, ml_dtypes.bfloat16)])
def test_units_are_the_distance_to_the_next_float(precision: int, dtype: type) -> None:
    values: NDArray[Any] = np.array([1.0, 1.5, 2.0, 0.1, 3e-4]).astype(dtype)
    after = np.nextafter(values, np.array(np.inf, dtype))
    expected = after.astype(np.float64) - values.astype(np.float64)
    assert np.array_equal(units(values.astype(np.float64), precision), expected)
