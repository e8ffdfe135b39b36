"""Recovered trees of grown families: fans, chains, drifting siblings, decay; and the parts beside their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.ancestry import recover
from indexer.costs import PRIVATE, ancestor_costs
from indexer.cues import CUES, measure_cues
from indexer.distance import measure_pairs, normalised
from indexer.family import Family
from indexer.solve import solve_component, split
from tests.grown import directed_accuracy, family_of, grow, parents_of, start
from tests.weights import Weights

Truth = dict[str, str]


def three_levels(seed: int, decay: float = 0.0, drift: float = 0.0) -> tuple[dict[str, Weights], Truth]:
    """
    root ─┬─ c0 ─┬─ c0-g0
          │      ├─ c0-g1
          │      └─ c0-g2
          ├─ c1 ...
          └─ c2 ...
    """
    root = start(seed)
    shared = {k: (drift * np.std(w) * np.random.default_rng(seed).standard_normal(w.shape)) for k, w in root.items()}
    models, truth = {"root": root}, {}
    for c in range(3):
        models[f"c{c}"] = grow(root, seed + 10 * c + 1, 0.1 + 0.05 * c, decay, shared)
        truth[f"c{c}"] = "root"
        for g in range(3):
            models[f"c{c}-g{g}"] = grow(models[f"c{c}"], seed + 100 * c + g + 5, 0.08 + 0.04 * g, decay)
            truth[f"c{c}-g{g}"] = f"c{c}"
    return models, truth


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_three_levels_come_out_whole(seed: int, decay: float) -> None:
    models, truth = three_levels(seed, decay)
    assert directed_accuracy(family_of(models), truth) == 1.0


def test_siblings_that_drift_together_stay_siblings() -> None:
    """Their shared drift makes some nearer to each other than to the root: a spanning tree chains them."""
    root = start(5)
    drift = {k: 0.18 * np.std(w) * np.random.default_rng(4).standard_normal(w.shape) for k, w in root.items()}
    family = family_of({"a-root": root} | {f"c{i}": grow(root, 50 + i, 0.2, drift=drift) for i in range(5)})
    a, b = np.triu_indices(6, 1)
    squared = np.zeros((6, 6))
    squared[a, b] = squared[b, a] = measure_pairs(family, normalised(family), a, b).squared
    apart = squared + np.diag(np.full(6, np.inf))
    assert (np.argmin(apart, axis=0)[1:] != 0).any()
    assert (np.argmin(ancestor_costs(squared, 0), axis=0)[1:] == 0).all()


def test_a_chain_comes_out_as_a_chain() -> None:
    models = {"m0": start(7)}
    for i in range(1, 7):
        models[f"m{i}"] = grow(models[f"m{i - 1}"], i, 0.15)
    assert directed_accuracy(family_of(models), {f"m{i}": f"m{i - 1}" for i in range(1, 7)}) == 1.0


def test_strangers_stay_alone() -> None:
    models = {f"s{i}": start(i) for i in range(4)}
    assert parents_of(family_of(models)) == {}
    assert len(split(family_of(models))) == 4


def test_two_families_of_one_architecture() -> None:
    one, truth_one = three_levels(1)
    two, truth_two = three_levels(2)
    models = {f"a/{k}": w for k, w in one.items()} | {f"b/{k}": w for k, w in two.items()}
    truth = {f"a/{k}": f"a/{v}" for k, v in truth_one.items()} | {f"b/{k}": f"b/{v}" for k, v in truth_two.items()}
    assert directed_accuracy(family_of(models), truth) == 1.0


def test_copies_casts_quantised_and_pruned_hang_on_their_original() -> None:
    models, truth = three_levels(4)
    original = models["c1"]

    def quantised(w: np.ndarray) -> np.ndarray:
        step = np.abs(w).max() / 127
        return np.asarray(np.round(w / step) * step, np.float32)

    def pruned(w: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(np.abs(w) > np.quantile(np.abs(w), 0.5), w, 0), np.float32)

    models["z-copy"] = {k: w.copy() for k, w in original.items()}
    models["z-half"] = {k: w.astype(np.float16) for k, w in original.items()}
    models["z-int8"] = {k: quantised(w) for k, w in original.items()}
    models["z-pruned"] = {k: pruned(w) for k, w in original.items()}
    found = parents_of(family_of(models))
    assert found["z-copy"] == ("c1", "copy")
    assert found["z-half"] == ("c1", "cast")
    assert found["z-int8"] == ("c1", "quantized")
    assert found["z-pruned"] == ("c1", "pruned")
    assert {child: parent for child, (parent, _) in found.items() if not child.startswith("z-")} == truth


def test_integers_with_a_scale_elsewhere_hang_on_what_they_correlate_with() -> None:
    models, truth = three_levels(4)
    models["z-int8"] = {k: np.round(w / (np.abs(w).max() / 127)).astype(np.int8) for k, w in models["c2-g1"].items()}
    found = parents_of(family_of(models))
    assert found.pop("z-int8") == ("c2-g1", "quantized")
    assert {child: parent for child, (parent, _) in found.items()} == truth


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_children_of_lower_precision_are_no_kin_through_rounding(stored: type) -> None:
    """All children are rounded to float16, the root is not: their shared rounding must not make them siblings' parents.

    Steps are below the rounding error, and some children were saved as float32 again.
    """
    root = start(3)
    tuned = {f"c{i}": grow(root, 30 + i, 0.0004) for i in range(4)}
    models = {"root": root} | {
        name: {k: w.astype(np.float16).astype(stored) for k, w in weights.items()} for name, weights in tuned.items()
    }
    found = parents_of(family_of(models))
    assert {name: found[name][0] for name in tuned} == dict.fromkeys(tuned, "root")


def test_a_merged_lora_is_named() -> None:
    rng = np.random.default_rng(0)
    base = {f"layers.{i}.v_proj.weight": (rng.standard_normal((128, 128)) * 0.05).astype(np.float32) for i in range(4)}

    def lora(weights: Weights, seed: int) -> Weights:
        r = np.random.default_rng(seed)
        return {
            k: (w + 0.003 * r.standard_normal((128, 8)) @ r.standard_normal((8, 128))).astype(np.float32)
            for k, w in weights.items()
        }

    models = {"base": base, "a": lora(base, 1), "b": lora(base, 2)}
    assert parents_of(family_of(models)) == {"a": ("base", "lora"), "b": ("base", "lora")}


def test_names_and_order_do_not_decide() -> None:
    """The same models under other names, so in another order: the same tree."""
    models, truth = three_levels(6)
    new = {name: f"n{i:02d}" for i, name in enumerate(sorted(models, key=lambda n: n[::-1], reverse=True))}
    renamed = {new[name]: w for name, w in models.items()}
    assert directed_accuracy(family_of(renamed), {new[c]: new[p] for c, p in truth.items()}) == 1.0


def ancestor_cost_definition(squared: np.ndarray, r: int, u: int, v: int) -> float:
    """|u - v|^2 + PRIVATE max(0, |u - r|^2 - <u - r, v - r>), the inner product by the law of cosines."""
    if u == r:
        return float(squared[r, v])
    inner = (squared[u, r] + squared[v, r] - squared[u, v]) / 2
    return float(squared[u, v] + PRIVATE * max(0.0, squared[u, r] - inner))


def test_ancestor_costs_equal_their_definition() -> None:
    x = np.random.default_rng(0).standard_normal((6, 20))
    squared = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    for r in range(6):
        costs = ancestor_costs(squared, r)
        for u in range(6):
            for v in range(6):
                expected = np.inf if u == v else ancestor_cost_definition(squared, r, u, v)
                assert costs[u, v] == pytest.approx(expected)


def test_cues_are_antisymmetric() -> None:
    models, _ = three_levels(8)
    family = family_of(models)
    for a, b in ((0, 1), (0, 12), (3, 7)):
        forwards, backwards = measure_cues(family, a, b), measure_cues(family, b, a)
        assert set(forwards) == set(CUES)
        for name in forwards:
            assert forwards[name] == pytest.approx(-backwards[name], abs=1e-9), name


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_cues_point_down_where_their_model_holds(decay: float) -> None:
    models, truth = three_levels(9, decay)
    family: Family = family_of(models)
    at = {name: i for i, name in enumerate(family.names)}
    spread = [measure_cues(family, at[p], at[c])["increment_spread"] for c, p in truth.items()]
    assert np.mean(np.array(spread) > 0) >= 0.75
    if decay == 0:
        growth = [measure_cues(family, at[p], at[c])["growth"] for c, p in truth.items()]
        assert min(growth) > 0


def test_confidence_is_a_probability_and_knows_ties() -> None:
    models, _ = three_levels(2)
    twin = {
        k: w + np.float32(1e-9) * np.random.default_rng(1).standard_normal(w.shape).astype(np.float32)
        for k, w in models["c0"].items()
    }
    models["c0-twin"] = twin
    family = family_of(models)
    n = len(family)
    squared = np.array([[((family.samples[i] - family.samples[j]) ** 2).sum() for j in range(n)] for i in range(n)])
    found = recover(squared, lambda u, v: measure_cues(family, u, v))
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert (found.confidence + found.runner_up_confidence <= 1 + 1e-9).all()
    # A grandchild below twins: either may be the parent, and the answer says so.
    g = family.names.index("c0-g0")
    assert found.confidence[g] < 0.7
    assert found.runner_up_confidence[g] > 0.2
    assert {family.names[found.parent[g]], family.names[found.runner_up[g]]} == {"c0", "c0-twin"}


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.ancestry._WORTH", 2)
    family = family_of(three_levels(3)[0])
    (part,) = split(family)
    one, two = (solve_component(family.take(part), threads=threads) for threads in (1, 3))
    assert (one.edges, one.stages, one.pairs) == (two.edges, two.stages, two.pairs)


def test_one_model_is_its_own_root() -> None:
    found = recover(np.zeros((1, 1)), lambda u, v: {})
    assert found.parent.tolist() == [-1]


def test_batchnorm_counters_point_down() -> None:
    """Statistics and counters are no weights, but a counter that went on says who came later."""
    root = start(2)
    models = {
        name: w | {"bn.num_batches_tracked": np.array(steps)}
        for name, w, steps in (("late", root, 700), ("early", grow(root, 1), 500))
    }
    family = family_of(models)
    assert measure_cues(family, family.names.index("early"), family.names.index("late"))["counter"] == 1.0
    assert "counter" in CUES


def test_two_that_tie_get_a_half_each() -> None:
    """Two models without a cue: either may have come first."""
    two = recover(np.array([[0.0, 1.0], [1.0, 0.0]]), lambda u, v: dict.fromkeys(CUES, 0.0))
    assert sorted(two.confidence) == [0.5, 0.5]
    assert two.parent.tolist() == [-1, 0]
