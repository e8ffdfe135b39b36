"""The methods that modelkin is compared with: each beside its definition, and on trees that they can do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.accuracy import peers
from indexer.family import Family
from tests.grown import family_of, grow, specialized, start
from tests.weights import Weights

TRUTH = {"c0": "root", "c1": "root", "c2": "root", "c0-g": "c0", "c1-g": "c1", "c2-g": "c2"}


@pytest.fixture(scope="module")
def models() -> dict[str, Weights]:
    return specialized()


@pytest.fixture(scope="module")
def family(models: dict[str, Weights]) -> Family:
    return family_of(models)


def _parents(family: Family, forest: peers.Forest) -> dict[str, str]:
    return {family.names[c]: family.names[p] for c, p in enumerate(forest.parent.tolist()) if p >= 0}


def test_the_earliest_upload_is_the_root(family: Family) -> None:
    order = np.array([0.0 if name == "root" else 1.0 + at for at, name in enumerate(family.names)])
    assert _parents(family, peers.mst_upload_order(family, 1, order)) == TRUTH
    turned = np.array([0.0 if name == "c1-g" else 1.0 + at for at, name in enumerate(family.names)])
    found = _parents(family, peers.mst_upload_order(family, 1, turned))
    assert found == {c: p for c, p in TRUTH.items() if c not in ("c1-g", "c1")} | {"c1": "c1-g", "root": "c1"}


def test_the_largest_kurtosis_is_the_root(family: Family) -> None:
    assert _parents(family, peers.kurtosis_root(family, 1)) == TRUTH


def test_the_longest_edges_part_clusters() -> None:
    one, two = start(1), start(2)
    models = {"a0": one, "a1": grow(one, 1), "b0": two, "b1": grow(two, 3), "s": start(3)}
    family = family_of(models)
    forest = peers.mst_upload_order(family, 3, np.arange(5.0))
    assert _parents(family, forest) == {"a1": "a0", "b1": "b0"}
    assert len(set(forest.labels.tolist())) == 3
    assert len(set(peers.mst_upload_order(family, 1, np.arange(5.0)).labels.tolist())) == 1


def test_copies_and_small_families(family: Family) -> None:
    for n in (1, 2):
        for forest in (peers.kurtosis_root(family.take(range(n)), 1), peers.authors_code(family.take(range(n)), 1)):
            assert (forest.parent >= 0).sum() == n - 1
    copies = family_of({"a": start(1), "b": start(1), "c": grow(start(1), 1)})
    assert (peers.kurtosis_root(copies, 1).parent >= 0).sum() == 2


def test_l_ft_of_the_released_code(family: Family, models: dict[str, Weights]) -> None:
    names = family.names
    expected = np.zeros((len(names), len(names)))
    for tensor in models["root"]:
        differences = {
            (i, j): models[names[i]][tensor].astype(np.float64) - models[names[j]][tensor]
            for i, j in combinations(range(len(names)), 2)
        }
        low = min(float(d.min()) for d in differences.values())
        high = max(float(d.max()) for d in differences.values())
        for (i, j), d in differences.items():
            expected[i, j] = expected[j, i] = max(expected[i, j], float(((d - low) / (high - low)).max()))
    np.testing.assert_allclose(peers.l_ft(family), expected, rtol=1e-6)


def test_l_ft_sees_square_layers_alone() -> None:
    root = start(1, layers=2, width=40)
    assert len({w.shape[0] == w.shape[1] for w in root.values()}) == 2
    other = {name: w + (0.5 if w.shape[0] != w.shape[1] else 0) for name, w in root.items()}
    third = grow(root, 1)
    distance = peers.l_ft(family_of({"a": root, "b": other, "c": third}))
    # Between a and b nothing that is square changed: 0, as the normalisation puts it.
    assert distance[0, 2] == pytest.approx(distance[1, 2])
    assert distance[0, 1] < distance[0, 2]


def test_l_lora_of_the_released_code_sums_ranks() -> None:
    rng = np.random.default_rng(0)
    base = {f"layers.{i}.v_proj.weight": (rng.standard_normal((128, 128)) * 0.05).astype(np.float32) for i in range(3)}

    def lora(parent: Weights, rank: int) -> Weights:
        return {
            k: (w + 0.01 * rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 128))).astype(np.float32)
            for k, w in parent.items()
        }

    b = lora(base, 2)
    family = family_of({"a": base, "b": b, "c": lora(b, 3)})
    layers = len(family.projections)
    distance = peers.l_lora(family)
    assert distance is not None
    np.testing.assert_array_equal(distance, layers * np.array([[0, 2, 5], [2, 0, 3], [5, 3, 0]]))
    assert peers.l_lora(family_of({"a": start(1, width=40)})) is None
    for told in (None, True):
        edges = {frozenset(edge) for edge in _parents(family, peers.authors_code(family, 1, told)).items()}
        assert edges == {frozenset("ab"), frozenset("bc")}


def test_the_released_code_is_told_which_distance_to_use(family: Family) -> None:
    """Ranks of full fine-tunes are all full: every distance the same."""
    distances = _parents(family, peers.authors_code(family, 1, False))
    assert _parents(family, peers.authors_code(family, 1)) == distances
    ranks = peers.l_lora(family)
    assert (ranks is None) == (not family.projections)


def test_the_released_code_parts_strangers() -> None:
    one, two = start(1), start(2)
    family = family_of({"a0": one, "a1": grow(one, 1), "a2": grow(one, 2), "b0": two, "b1": grow(two, 3)})
    forest = peers.authors_code(family, 2)
    assert len(set(forest.labels[:3].tolist())) == 1
    assert len(set(forest.labels.tolist())) == 2
    assert (forest.parent < 0).sum() == 2
