"""The paper's tables: fast code beside slow, obvious definitions, on a toy VTHR and on trees of a few nodes."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.table_distances import clustering_accuracy, edge_distances
from benchmarks.accuracy.table_measurements import Measured, Ranks, measure
from benchmarks.accuracy.table_recovery import (
    grown,
    recovered_graph,
    shares,
    smaller_trees,
    strewn,
    table_1,
    true_parents,
)
from benchmarks.accuracy.table_rows import GRAPH
from benchmarks.accuracy.table_training import courses, other_scores, statistic
from benchmarks.accuracy.table_triplets import protocol
from benchmarks.accuracy.whole_weights import ModelSet, read_set, sketch_family, whole_family
from indexer.paper import l_ft, l_lora, layer_differences, merged, recover_tree, solve_paper
from store.errors import StopError
from tests.toy_vthr import WIDTH, full, write_set, write_vthr
from tests.weights import Weights


@pytest.fixture(scope="module")
def vthr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vthr(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tuned(vthr: Path) -> ModelSet:
    return read_set(vthr / "ft")


@pytest.fixture(scope="module")
def low_rank(vthr: Path) -> ModelSet:
    return read_set(vthr / "lora-v")


def _measured(models: ModelSet, whole: bool) -> Measured:
    family = whole_family(models) if whole else sketch_family(models)
    return measure(models.split, "weights", models.truth, family, Ranks() if models.truth.lora else None)


def _weights(models: ModelSet) -> list[Weights]:
    from safetensors.numpy import load_file

    return [load_file(models.folder / model.name / "model.safetensors") for model in models.models]


def test_whole_weights_are_whole(tuned: ModelSet) -> None:
    family = whole_family(tuned)
    for row, weights in enumerate(_weights(tuned)):
        for tensor in family.measured:
            found = next(w for name, w in weights.items() if name.endswith(tensor.name))
            np.testing.assert_array_equal(tensor.samples[row], found.reshape(-1).astype(np.float64))
    assert sketch_family(tuned).samples.shape[1] < family.samples.shape[1]


def test_differences_of_a_layer() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2500))
    difference = np.abs(x[:, None] - x[None, :])
    largest, absolute = layer_differences(x)
    np.testing.assert_allclose(largest, difference.max(axis=2))
    np.testing.assert_allclose(absolute, difference.sum(axis=2))


def test_equation_1_is_over_every_weight_of_the_dense_layers(tuned: ModelSet) -> None:
    weights = _weights(tuned)
    measured = _measured(tuned, whole=True)
    rows = measured.rows("one")
    D = measured.distance("l_ft", rows)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            expected = []
            for name in (n for n in weights[0] if "dense" in n):
                span = max(weights[r][name].max() for r in rows) - min(weights[r][name].min() for r in rows)
                expected.append(np.abs(weights[a][name].astype(float) - weights[b][name]).max() / span)
            assert D[i, j] == pytest.approx(max(expected), rel=1e-5)


def test_equation_2_is_the_rank_of_the_whole_difference(low_rank: ModelSet) -> None:
    weights = _weights(low_rank)
    measured = _measured(low_rank, whole=True)
    values = [name for name in weights[0] if "value" in name]
    for a, b in [(0, 1), (2, 5), (3, 9), (4, 11)]:
        ranks = [np.linalg.matrix_rank(weights[a][n].astype(float) - weights[b][n], tol=1e-4) for n in values]
        assert measured.distance("l_lora", np.array([a, b]))[0, 1] == max(ranks)
    assert measured.full == WIDTH


@pytest.mark.parametrize(("split", "whole"), [("ft", True), ("ft", False), ("lora-v", False)])
def test_what_is_measured_once_is_what_mode_paper_computes(
    split: str, whole: bool, tuned: ModelSet, low_rank: ModelSet
) -> None:
    models = tuned if split == "ft" else low_rank
    family = whole_family(models) if whole else sketch_family(models)
    measured = _measured(models, whole)
    name = "l_ft" if split == "ft" else "l_lora"
    for tree in measured.trees:
        rows = measured.rows(tree)
        np.testing.assert_allclose(measured.distance("l_ft", rows), l_ft(family.take(rows)), rtol=1e-12)
        if split == "lora-v":
            np.testing.assert_array_equal(measured.distance("l_lora", rows), l_lora(family.take(rows)))
    parent, labels = recovered_graph(measured, name)
    found = np.full(len(parent), -1)
    for rows, component in solve_paper(family, 2, lora=split == "lora-v"):
        assert len(set(labels[rows])) == 1
        for edge in component.edges:
            found[edge.child_id - 1] = edge.parent_id - 1
    np.testing.assert_array_equal(parent, found)
    assert shares(parent, models.truth.parent).directed >= 8


def test_a_set_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, [-1, 0], full, "finetune")
    with (tmp_path / "truth.csv").open("a") as file:
        file.write("one/m9,one/m0,finetune,specialization,one,\n")
    with pytest.raises(StopError, match="one/m9"):
        read_set(tmp_path)


def test_shares() -> None:
    # true: 0 -> 1 -> 2, 0 -> 3; found: 1 -> 0, 1 -> 2, 2 -> 3
    assert shares(np.array([1, -1, 1, 2]), np.array([-1, 0, 1, 0])).directed == 1
    assert shares(np.array([1, -1, 1, 2]), np.array([-1, 0, 1, 0])).undirected == 2


def test_the_parent_in_a_smaller_tree_is_the_nearest_ancestor_that_is_there(tuned: ModelSet) -> None:
    measured = _measured(tuned, whole=False)
    up = measured.truth.parent
    leaf = next(row for row in range(len(up)) if up[row] >= 0 and up[up[row]] >= 0)
    root = int(up[up[leaf]])
    assert true_parents(measured, np.array([leaf, root])).tolist() == [1, -1]
    assert true_parents(measured, np.array([leaf, int(up[leaf]), root])).tolist() == [1, 2, -1]
    sizes = {row.metric: row.of for row in smaller_trees(measured, 1)}
    assert sizes["connected, 40 %"] == sizes["any models, 40 %"] == 20
    assert sizes["connected, 100 %"] == 2


def test_smaller_trees_keep_the_root_and_connected_ones_every_parent() -> None:
    parent = np.array([3, 0, 0, -1, 3, 4, 4])
    for size, seed in product((2, 4, 7), range(20)):
        draw = np.random.default_rng(seed)
        for nodes in (grown(parent, size, draw), strewn(parent, size, draw)):
            assert 3 in nodes
            assert len(set(nodes.tolist())) == size
        connected = set(grown(parent, size, draw).tolist())
        assert all(node == 3 or int(parent[node]) in connected for node in connected)


def test_a_recovered_tree_is_the_best_of_all_trees() -> None:
    """Equations 4 to 6: every choice of a parent for every node that makes a tree, the lightest taken."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        half = rng.random((5, 5))
        D, score, stage = np.triu(half, 1) + np.triu(half, 1).T, rng.random(5), rng.random(5) < 0.3
        M = merged(D, score, stage)
        trees = [p for p in product(range(-1, 5), repeat=5) if p.count(-1) == 1 and _is_tree(p)]
        found = tuple(recover_tree(D, score, stage).tolist())
        assert found in trees
        # Two trees can weigh the same: one and the same edges from another root, as many of them against the score.
        assert _weight(M, found) == pytest.approx(min(_weight(M, tree) for tree in trees))


def _weight(M: NDArray[np.float64], parents: tuple[int, ...]) -> float:
    return sum(float(M[up, node]) for node, up in enumerate(parents) if up >= 0)


def _is_tree(parents: tuple[int, ...]) -> bool:
    def climbs(node: int) -> bool:
        for _ in parents:
            node = parents[node] if node >= 0 else -1
        return node == -1

    return all(climbs(node) for node in range(len(parents)))


@pytest.mark.parametrize(
    ("distance", "score", "edges"),
    [
        ({(0, 1): 1, (1, 2): 1, (0, 2): 2}, [3, 2, 1], {(0, 1), (1, 2)}),
        ({(0, 1): 1, (0, 2): 1, (1, 2): 2}, [3, 2, 1], {(0, 1), (0, 2)}),
        ({(0, 1): 9, (0, 2): 9, (1, 2): 2}, [3, 2, 1], {(1, 2)}),
        ({(0, 1): 9, (0, 2): 9, (1, 2): 9}, [3, 2, 1], set()),
    ],
    ids=["GPC", "PC2", "PCS", "S3"],
)
def test_the_protocol_of_section_5_1(
    distance: dict[tuple[int, int], float], score: list[float], edges: set[tuple[int, int]]
) -> None:
    D = np.zeros((3, 3))
    for (a, b), value in distance.items():
        D[a, b] = D[b, a] = value
    assert protocol(D, np.array(score, float), threshold=5.0) == edges


def test_edges_between_two_models() -> None:
    #   0 -> 1 -> 2
    #   0 -> 3
    found = edge_distances(np.array([-1, 0, 1, 0]))
    np.testing.assert_array_equal(found, [[0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 3], [1, 2, 3, 0]])


def test_clusters_are_matched_to_trees() -> None:
    assert clustering_accuracy(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])) == 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, truth = rng.integers(0, 4, (2, 12))
        best = max(float((np.array(names)[labels] == truth).mean()) for names in permutations(range(4)))
        assert clustering_accuracy(labels, truth) == pytest.approx(best)


def test_courses_and_their_statistics(vthr: Path) -> None:
    models = read_set(vthr / "checkpoints")
    found = courses(models.truth)
    assert [(run.tree, run.generalization, len(run.rows)) for run in found] == [
        ("one", True, 3), ("two", True, 3), ("one", False, 4), ("two", False, 4)
    ]  # fmt: skip
    names = [models.models[row].name for row in found[2].rows]
    assert names == [f"one/m{at}" for at in (2, 3, 4, 5)]
    weights = _weights(models)
    dense = [[w.astype(float).reshape(-1) for name, w in each.items() if "dense" in name] for each in weights]
    for name, definition in (
        ("mean", np.mean),
        ("variance", np.var),
        ("skewness", stats.skew),
        ("kurtosis", lambda x: stats.kurtosis(x, fisher=False)),
    ):
        for family in (sketch_family(models), whole_family(models)):
            expected = [sum(float(definition(x)) for x in each) for each in dense]
            np.testing.assert_allclose(statistic(name, models, family), expected, rtol=1e-6, atol=1e-9)
    entropy = statistic("entropy", models, whole_family(models))
    assert ((entropy > 0) & (entropy < 2 * np.log(256))).all()
    rises = {(row.tree, row.metric): row.value for row in other_scores(models, whole_family(models), "weights")}
    kurtosis = statistic("kurtosis", models, whole_family(models))
    for run in found[2:]:
        assert rises[run.tree, "kurtosis rises"] == (np.diff(kurtosis[run.rows]) > 0).mean()


def test_mode_paper_says_of_a_set_what_table_1_says_of_its_sketches(
    vthr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a tree, then the graph, whatever stage truth.csv gives a root."""
    for split in ("ft", "lora-v"):
        assert main(["--mode", "paper", "--sets", str(vthr / split), "--data", str(tmp_path), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["split"] for line in lines] == [f"{split}/one", f"{split}/two", split]
        rows = {
            (row.tree, row.metric.split()[0]): row.value for row in table_1(_measured(read_set(vthr / split), False))
        }
        for line, tree in zip(lines, ("one", "two", GRAPH), strict=True):
            assert line["mode"] == "paper"
            assert line["directed_accuracy"] == pytest.approx(rows[tree, "directed"], abs=1e-4)
            assert line["undirected_accuracy"] == pytest.approx(rows[tree, "undirected"], abs=1e-4)
