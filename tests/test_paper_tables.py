"""The paper's tables: whole weights beside definitions, each count on a small tree, and all of it on a toy VTHR."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.accuracy import figure_panels, tables
from benchmarks.accuracy.figures import Line, Panel, draw
from benchmarks.accuracy.table_distances import clustering_accuracy, edge_distances
from benchmarks.accuracy.table_measurements import Measured, Ranks, measure
from benchmarks.accuracy.table_pages import grid, markdown
from benchmarks.accuracy.table_recovery import recovered_graph, shares, smaller_trees, true_parents
from benchmarks.accuracy.table_rows import GRAPH, Row, as_json
from benchmarks.accuracy.table_training import courses, statistic
from benchmarks.accuracy.table_triplets import protocol
from benchmarks.accuracy.whole_weights import ModelSet, read_set, sketch_family, whole_family
from indexer.paper import l_ft, l_lora, solve_paper
from store.errors import StopError
from tests.weights import Weights, save

WIDTH = 128
Child = Callable[[Weights, np.random.Generator], Weights]


def _root(rng: np.random.Generator) -> Weights:
    kinds = ("attention.attention.query", "attention.attention.key", "attention.attention.value", "output.dense")
    return {
        f"encoder.layer.{at}.{kind}.weight": (0.05 * rng.standard_t(5, (WIDTH, WIDTH))).astype(np.float32)
        for at in range(2)
        for kind in kinds
    }


def _full(parent: Weights, rng: np.random.Generator) -> Weights:
    return {name: (w + 0.005 * rng.standard_normal(w.shape)).astype(np.float32) for name, w in parent.items()}


def _lora(parent: Weights, rng: np.random.Generator) -> Weights:
    child = dict(parent)
    for name in parent:
        if "query" in name or "value" in name:
            step = 0.01 * rng.standard_normal((WIDTH, 8)) @ rng.standard_normal((8, WIDTH))
            child[name] = (parent[name] + step).astype(np.float32)
    return child


def _write(folder: Path, parents: list[int], child: Child, relation: str, stages: str = "") -> Path:
    """Two trees of the shape of `parents` (-1: a root) with truth.csv; `stages` has a g for each generalization."""
    rows = [("child", "parent", "relation", "stage", "tree", "coefficient")]
    for tree in ("one", "two"):
        rng = np.random.default_rng([len(tree), ord(tree[0])])
        models: list[Weights] = []
        for at, up in enumerate(parents):
            models.append(_root(rng) if up < 0 else child(models[up], rng))
            save(folder / tree / f"m{at}", models[-1])
            stage = "generalization" if stages[at : at + 1] == "g" else "specialization"
            root = up < 0
            rows.append(
                (f"{tree}/m{at}", "" if root else f"{tree}/m{up}", "" if root else relation,
                 "" if root else stage, tree, "")
            )  # fmt: skip
    with (folder / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def vthr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    root = data / "vthr" / "seed-1"
    _write(root / "ft", [-1, 0, 0, 1, 1, 2], _full, "finetune")
    _write(root / "lora-v", [-1, 0, 0, 1, 1, 2], _lora, "lora")
    _write(root / "seeds", [-1, 0, 0, 0], _full, "finetune")
    _write(root / "checkpoints", [-1, 0, 1, 2, 3, 4], _full, "finetune", " ggsss")
    return data


@pytest.fixture(scope="module")
def tuned(vthr: Path) -> ModelSet:
    return read_set(vthr / "vthr" / "seed-1" / "ft")


@pytest.fixture(scope="module")
def low_rank(vthr: Path) -> ModelSet:
    return read_set(vthr / "vthr" / "seed-1" / "lora-v")


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
    _write(tmp_path, [-1, 0], _full, "finetune")
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
    assert sizes["directed, 40 % of the models"] == 20
    assert sizes["directed, 100 % of the models"] == 2


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
    assert clustering_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == 0.75


def test_courses_and_their_statistics(vthr: Path) -> None:
    models = read_set(vthr / "vthr" / "seed-1" / "checkpoints")
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


def test_tables_and_figures_of_a_toy(vthr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    root = vthr / "vthr" / "seed-1"
    folders = {path.name: path for path in sorted(root.iterdir())}
    results = tables.tabulate(folders, 1, Ranks())
    for out in (tmp_path / "a", tmp_path / "b"):
        tables.write(results, 1, out)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [f"paper-fig{at}.svg" for at in (14, 19, 2, 3, 7)] + ["paper-tables.md"]
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert len(content) < 60_000
        assert b"date" not in content.lower().replace(b"no date", b"")
    assert "bf16: not there" in capsys.readouterr().err
    found = {(row.table, row.split, row.tree, row.source, row.metric): row.value for row in results.rows}
    assert found["table 1", "lora-v", GRAPH, "weights", "directed l_lora"] == 1.0
    assert found["similar models", "seeds", GRAPH, "sketch", "siblings farther apart than from the parent"] == 1.0
    assert found["figure 3", "checkpoints", GRAPH, "weights", "fine-tuning falls"] == 1.0
    shares_alone = [row for row in results.rows if row.table not in ("figure 2", "direction")]
    assert all(0 <= row.value <= 1 for row in shares_alone)
    assert found["direction", "ft", GRAPH, "sketch", "score falls, dense"] >= 0.9
    assert {row.source for row in results.rows} == {"weights", "sketch"}


def test_the_command_prints_json_lines(
    vthr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "SPLITS", ("seeds",))
    assert tables.main(vthr, 1, None, True) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"table", "split", "tree", "source", "metric", "value"} <= set(rows[0])
    assert {row["source"] for row in rows} == {"weights", "sketch"}


def test_a_page_sets_sources_side_by_side() -> None:
    rows = [
        Row("lambda", "ft", GRAPH, "weights", "directed", 0.91, of=100, paper=0.9),
        Row("lambda", "ft", GRAPH, "sketch", "directed", 0.8, deviation=0.1, of=100),
    ]
    header, cells = grid(rows)
    assert header == ["split", "metric", "of", "whole weights", "sketches", "cost", "paper"]
    assert cells == [["ft", "directed", "100", "0.91", "0.80 ± 0.10", "+0.11", "0.90"]]
    assert "| ft | directed | 100 |" in markdown(rows, 1, [])
    wide = grid(
        [
            Row("table 4", "ft", GRAPH, s, f"directed, {p} %", 0.5, paper=0.9)
            for s in ("weights", "sketch")
            for p in (20, 40)
        ]
    )
    assert wide[0] == ["split", "metric", "from", "20 %", "40 %"]
    assert [line[2:] for line in wide[1]] == [
        ["whole weights", "0.50", "0.50"], ["sketches", "0.50", "0.50"], ["the paper", "0.90", "0.90"]
    ]  # fmt: skip
    assert as_json(rows[0]) == {
        "table": "lambda", "split": "ft", "tree": GRAPH, "source": "weights", "metric": "directed",
        "value": 0.91, "of": 100, "paper": 0.9,
    }  # fmt: skip


def test_a_figure_has_its_lines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    line = Line("kurtosis", [0, 1, 2], [1.0, 0.9, 0.7], [0.1, 0.1, 0.1])
    draw([Panel("falls", "checkpoint", "score", [line])], tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert "checkpoint" in text
    assert text.startswith("<?xml")
    assert figure_panels.figure_2([]) == []
