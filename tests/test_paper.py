"""Mode `paper`: each equation beside its definition, and a tree of the kind that the paper starts from."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.family import Family
from indexer.paper import cluster, directional_score, l_ft, l_lora, merged, solve_paper
from tests.grown import family_of, grow, specialized, start
from tests.weights import Weights


@pytest.fixture(scope="module")
def models() -> dict[str, Weights]:
    return specialized()


@pytest.fixture(scope="module")
def family(models: dict[str, Weights]) -> Family:
    return family_of(models)


def test_l_ft_is_equation_1(family: Family, models: dict[str, Weights]) -> None:
    """Small models are kept whole, so that the maximum over samples is that over all weights."""
    distance = l_ft(family)
    names = family.names
    for i in range(len(names)):
        for j in range(len(names)):
            layers = []
            for tensor in models["root"]:
                low = min(float(models[n][tensor].min()) for n in names)
                high = max(float(models[n][tensor].max()) for n in names)
                u, v = ((models[n][tensor].astype(np.float64) - low) / (high - low) for n in (names[i], names[j]))
                layers.append(np.abs(u - v).max())
            assert distance[i, j] == pytest.approx(max(layers), rel=1e-6)


def test_directional_score_is_equation_3(family: Family, models: dict[str, Weights]) -> None:
    for at, name in enumerate(family.names):
        expected = 0.0
        for w in models[name].values():
            x = w.astype(np.float64)
            expected += float(((x - x.mean()) ** 4).mean() / ((x - x.mean()) ** 2).mean() ** 2)
        assert directional_score(family)[at] == pytest.approx(expected)


def test_merged_is_equation_6() -> None:
    D = np.array([[0.0, 2.0], [2.0, 0.0]])
    score = np.array([5.0, 3.0])
    generalization = np.array([False, True])
    M = merged(D, score, generalization, c=0.5)
    # lambda = .5 * mean(D) = .5. Edge 0 -> 1: K = 0, T = 1: penalised. Edge 1 -> 0: K = 1, T = 0: penalised.
    np.testing.assert_allclose(M, [[np.inf, 2.5], [2.5, np.inf]])
    M = merged(D, score, np.array([False, False]), c=0.5)
    np.testing.assert_allclose(M, [[np.inf, 2.0], [2.5, np.inf]])


def test_the_tree_is_recovered(family: Family) -> None:
    ((rows, component),) = solve_paper(family, clusters=1)
    names = {int(family.model_ids[r]): family.names[r] for r in rows}
    found = {names[edge.child_id]: names[edge.parent_id] for edge in component.edges}
    assert found == {f"c{c}": "root" for c in range(3)} | {f"c{c}-g": f"c{c}" for c in range(3)}


def test_clusters_are_trees() -> None:
    one, two = start(1), start(2)
    models = {"a0": one, "a1": grow(one, 1), "a2": grow(one, 2), "b0": two, "b1": grow(two, 3)}
    labels = cluster(family_of(models), 2)
    assert len(set(labels[:3])) == 1
    assert len(set(labels[3:])) == 1
    assert labels[0] != labels[3]


def test_l_lora_is_equation_2() -> None:
    rng = np.random.default_rng(0)
    base = {f"layers.{i}.v_proj.weight": (rng.standard_normal((128, 128)) * 0.05).astype(np.float32) for i in range(3)}

    def lora(rank: int) -> Weights:
        return {
            k: (w + 0.01 * rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 128))).astype(np.float32)
            for k, w in base.items()
        }

    distance = l_lora(family_of({"a": base, "b": lora(4), "c": lora(8)}))
    assert distance is not None
    np.testing.assert_array_equal(distance, [[0, 4, 8], [4, 0, 12], [8, 12, 0]])
    assert l_lora(family_of({"a": start(1, width=40)})) is None
