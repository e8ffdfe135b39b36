"""Inferred ancestors: laws on trees whose squared distances add up exactly, and families grown and then thinned out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.missing import MissingScore, score_missing
from indexer.missing import Completed, infer
from indexer.orphans import steady
from indexer.solve import solve_component
from tests.grown import family_of, grow, parents_of, start
from tests.weights import Weights

Shape = list[int]


def additive(shape: Shape, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A root (row 0) with a child for each number in `shape`, which has so many children: parents, squared distances,
    squared norms. Every edge is a step of its own, of squared length .9 to 1.1."""
    parent = [-1]
    for children in shape:
        child = len(parent)
        parent += [0, *[child] * children]
    n = len(parent)
    lengths = np.random.default_rng(seed).uniform(0.9, 1.1, n)
    steps = np.zeros((n, n))
    for row in range(n):
        at = row
        while at > 0:
            steps[row, at] = np.sqrt(lengths[at])
            at = parent[at]
    squared = ((steps[:, None] - steps[None]) ** 2).sum(axis=2)
    return np.array(parent), squared, 50.0 + squared[0]


def without(row: int, parent: np.ndarray, squared: np.ndarray, sizes: np.ndarray, *, chained: bool) -> Completed:
    """Infer in the tree without one of its rows. Its children hang from their grandparent, or, `chained` or where there
    is none, from one of themselves."""
    orphans = np.flatnonzero(parent == row)
    nearest = int(orphans[np.argmin(squared[row, orphans])])
    tree = parent.copy()
    tree[orphans] = nearest if chained or parent[row] < 0 else parent[row]
    tree[nearest] = parent[row]
    rest = np.delete(np.arange(len(parent)), row)
    new = np.full(len(parent) + 1, -1)
    new[rest] = np.arange(len(rest))

    def direction(u: int, v: int) -> float:
        a, b = int(rest[u]), int(rest[v])
        while b >= 0 and b != a:
            b = int(parent[b])
        return 2.0 if b == a else 0.0

    return infer(squared[np.ix_(rest, rest)], new[tree[rest]], sizes[rest], direction)


shapes = st.lists(st.integers(3, 4), min_size=4, max_size=5)


@settings(deadline=None)
@given(shapes, st.integers(0, 1000))
def test_nothing_is_inferred_where_nobody_is_missing(shape: Shape, seed: int) -> None:
    parent, squared, sizes = additive(shape, seed)
    found = infer(squared, parent, sizes, lambda u, v: 0.0)
    assert found.parent.tolist() == parent.tolist()
    assert found.shared.size == 0


@settings(deadline=None)
@given(shapes, st.integers(0, 1000), st.booleans(), st.data())
def test_a_missing_inner_node_comes_back(shape: Shape, seed: int, chained: bool, data: st.DataObject) -> None:
    parent, squared, sizes = additive(shape, seed)
    row = data.draw(st.sampled_from(np.flatnonzero(parent == 0).tolist()))
    found = without(row, parent, squared, sizes, chained=chained)
    rest = np.delete(np.arange(len(parent)), row)
    n = len(rest)
    assert found.shared.size == 1
    assert found.parent[n] == 0
    assert rest[np.flatnonzero(found.parent[:n] == n)].tolist() == np.flatnonzero(parent == row).tolist()
    assert np.allclose(found.squared[n, :n], squared[row, rest])
    others = parent[rest] != row
    assert (found.parent[:n][others][1:] == np.searchsorted(rest, parent[rest][others][1:])).all()


@settings(deadline=None)
@given(shapes, st.integers(0, 1000))
def test_a_missing_root_comes_back(shape: Shape, seed: int) -> None:
    parent, squared, sizes = additive(shape, seed)
    found = without(0, parent, squared, sizes, chained=False)
    n = len(parent) - 1
    assert found.shared.size == 1
    assert found.parent[n] == -1
    assert (1 + np.flatnonzero(found.parent[:n] == n)).tolist() == np.flatnonzero(parent == 0).tolist()
    assert np.allclose(found.squared[n, :n], squared[0, 1:])


def test_two_models_are_an_edge() -> None:
    found = infer(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([-1, 0]), np.ones(2), lambda u, v: 0.0)
    assert found.parent.tolist() == [-1, 0]


def alone(lengths: list[float]) -> np.ndarray:
    """Squared distances of siblings that have gone so far each, all alone, from a parent that is not there."""
    squared = np.add.outer(lengths, lengths)
    np.fill_diagonal(squared, 0.0)
    return squared


def test_siblings_alone_have_a_parent_where_drift_cannot_tell_their_distances() -> None:
    """Any three models have a point between them. Of some that went as far each, one may be the parent of the others,
    which drift; where they went unlike ways, no drift makes what pairs share alike."""

    def found(lengths: list[float]) -> Completed:
        k = len(lengths)
        return infer(alone(lengths), np.array([-1, *[0] * (k - 1)]), 50.0 + np.array(lengths), lambda u, v: 0.0)

    assert found([3.0, 3.0, 12.0]).shared.size == 0
    assert found([3.0, 3.0, 3.0, 3.0, 3.0]).shared.size == 0
    star = found([3.0, 3.0, 3.0, 12.0, 12.0])
    assert star.parent.tolist() == [5, 5, 5, 5, 5, -1]
    assert np.allclose(star.squared[5, :5], [3.0, 3.0, 3.0, 12.0, 12.0])


def test_the_cues_tell_which_of_the_models_around_a_point_is_the_root() -> None:
    """Row 2 has a child, row 5; a leaf is no root, however old it looks."""
    lengths = [3.0, 3.0, 3.0, 12.0, 12.0]
    squared = np.zeros((6, 6))
    squared[:5, :5] = alone(lengths)
    squared[5, :5] = squared[:5, 5] = squared[2, :5] + 1.0

    def parents(oldest: int) -> tuple[int, ...]:
        tree, sizes = np.array([-1, 0, 0, 0, 0, 2]), 50.0 + np.array([*lengths, 4.0])
        return tuple(infer(squared, tree, sizes, lambda u, v: 4.0 * ((u == oldest) - (v == oldest))).parent)

    assert parents(2) == (6, 6, -1, 6, 6, 2, 2)
    assert parents(1) == (6, 6, 6, 6, 6, 2, -1)


def test_an_edge_that_a_card_confirms_stays() -> None:
    parent, squared, sizes = additive([4, 3, 3], 1)
    rest = np.delete(np.arange(len(parent)), 1)
    tree = np.where(parent[rest] == 1, 0, np.maximum(parent[rest] - 1, -1))
    tree[parent[rest] == 0] = 0
    fixed = np.zeros(len(rest), bool)
    assert infer(squared[np.ix_(rest, rest)], tree, sizes[rest], lambda u, v: 0.0, fixed).shared.size == 1
    fixed[1:5] = True
    found = infer(squared[np.ix_(rest, rest)], tree, sizes[rest], lambda u, v: 0.0, fixed)
    assert found.parent.tolist() == tree.tolist()


def test_what_was_not_measured_is_not_guessed() -> None:
    _, squared, sizes = additive([3, 3], 1)
    squared[np.ix_([2, 3, 4], [2, 3, 4])] = np.inf
    np.fill_diagonal(squared, 0.0)
    tree = np.array([-1, 0, 0, 0, 0, 0, 5, 5, 5])
    assert infer(squared, tree, sizes, lambda u, v: 0.0).shared.size == 0


def family(seed: int, drift: float = 0.0) -> tuple[dict[str, Weights], dict[str, str]]:
    """root, four children, three grandchildren of each; siblings share a drift of up to so much of their step."""
    root = start(seed)
    models, truth = {"root": root}, {}

    def brood(name: str, number: int) -> list[str]:
        rng = np.random.default_rng(seed + number)
        shared = {k: 0.1 * drift * np.std(w) * rng.standard_normal(w.shape) for k, w in models[name].items()}
        children = [f"{name}-{i}" for i in range(3)] if name != "root" else [f"c{i}" for i in range(4)]
        for i, child in enumerate(children):
            part = {k: (0.4, 0.7, 1.0, 0.6)[i] * w for k, w in shared.items()}
            models[child] = grow(models[name], 100 * seed + 10 * number + i, 0.1, drift=part)
            truth[child] = name
        return children

    for number, child in enumerate(brood("root", 0)):
        brood(child, number + 1)
    return models, truth


@pytest.mark.parametrize("drift", [0.0, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_is_inferred_in_a_whole_family(seed: int, drift: float) -> None:
    models, truth = family(seed, drift)
    assert {child: parent for child, (parent, _) in parents_of(family_of(models)).items()} == truth


@pytest.mark.parametrize("drift", [0.0, 0.3])
@pytest.mark.parametrize("gone", ["c0", "c2", "root"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_children_of_a_missing_model_find_each_other(seed: int, gone: str, drift: float) -> None:
    models, truth = family(seed, drift)
    del models[gone]
    found = {child: parent for child, (parent, _) in parents_of(family_of(models)).items()}
    orphans = {child for child, parent in truth.items() if parent == gone}
    (node,) = {parent for parent in found.values() if parent.startswith("inferred/")}
    around = {child for child, parent in found.items() if parent == node} | {found.get(node, "")} - {""}
    # Which of them was first, cues may misjudge where the root itself is gone.
    assert around == orphans | {truth[gone]} if gone in truth else around == orphans
    assert gone not in truth or found[node] == truth[gone]
    rest = {child: parent for child, parent in truth.items() if gone not in (child, parent)}
    assert {child: found[child] for child in rest} == rest


def test_what_an_edge_was_without_inference_is_its_runner_up() -> None:
    models, _ = family(2)
    del models["c0"]
    whole = family_of(models)
    plain = {edge.child_id: edge for edge in solve_component(whole, infer=False).edges}
    solved = solve_component(whole)
    (node,) = solved.inferred
    assert node.children == 3
    assert node.inferred_id < 0
    adopted = [edge for edge in solved.edges if edge.parent_id == node.inferred_id]
    assert len(adopted) == 3
    for edge in adopted:
        before = plain[edge.child_id]
        assert edge.runner_up_id == before.parent_id
        assert edge.confidence + (edge.runner_up_confidence or 0) <= 1
        (says,) = [each.says for each in edge.evidence if each.cue == "shared_learning"]
        assert says.startswith("no model in the graph lies between these 3 siblings: they share 0.")
    assert solve_component(whole, infer=False).inferred == ()


def test_a_head_made_anew_is_no_common_learning() -> None:
    """Each child starts with a head of its own: what they lost of the parent's is the same for all."""
    models, truth = family(4)
    rng = np.random.default_rng(0)
    for name in models:
        models[name]["layers.9.weight"] = (rng.standard_normal((96, 96)) * 0.2).astype(np.float32)
    whole = family_of(models)
    parent = np.array([whole.names.index(truth[name]) if name in truth else -1 for name in whole.names])
    assert "layers.9.weight" in {tensor.name for tensor in whole.measured}
    assert "layers.9.weight" not in {tensor.name for tensor in steady(whole, parent).measured}
    assert len(steady(whole, parent).measured) == len(whole.measured) - 1
    assert solve_component(whole).inferred == ()


def test_the_score_counts_orphans_and_losses() -> None:
    truth = {"a": "p", "b": "p", "x": "missing:m", "y": "missing:m", "z": "missing:m", "only": "missing:n"}
    plain = {"a": "p", "b": "p", "x": "p", "y": "x", "z": "x", "only": "p"}
    found = {"a": "p", "b": "i2", "only": "i2", "x": "i", "y": "i", "z": "i", "i": "p", "i2": "p"}
    assert score_missing(found, plain, truth, {"i", "i2"}) == MissingScore(
        truth_edges=2,
        found_edges=2,
        lost_edges=1,
        orphans=3,
        right=3,
        mostly_right=3,
        sibling_edges=2,
        sibling_edges_avoided=2,
        nodes=2,
        nodes_right=1,
    )
