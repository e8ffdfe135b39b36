"""Bit-equal tensors are inherited: the tree in which each content is connected costs least."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.inheritance import CHANGE, inheritance_costs
from tests.grown import family_of, grow, parents_of, start
from tests.weights import Weights


def changed(models: dict[str, Weights], u: str, v: str) -> int:
    """The definition: tensors that differ."""
    return sum(not np.array_equal(models[u][name], models[v][name]) for name in models[v])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 5), min_size=1)), min_size=1, max_size=5))
def test_costs_count_the_tensors_that_change(steps: list[tuple[int, set[int]]]) -> None:
    """A tree grown by steps (parent modulo size, blocks that are trained); its true edges are the cheapest."""
    models = {"m0": start(1, width=32)}
    truth = {}
    for at, (above, blocks) in enumerate(steps, 1):
        parent = f"m{above % at}"
        trained = grow(models[parent], 100 + at)
        models[f"m{at}"] = {k: trained[k] if i in blocks else w for i, (k, w) in enumerate(models[parent].items())}
        truth[f"m{at}"] = parent
    family = family_of(models)
    costs = inheritance_costs(family)
    names = family.names
    assert costs.shape == (len(names) + 1, len(names))
    assert (costs >= 0).all()
    assert (costs[-1] == 0).all()
    for v, child in enumerate(names):
        others = [u for u in range(len(names)) if u != v]
        counts = [changed(models, names[u], child) for u in others]
        assert costs[others, v] == pytest.approx([CHANGE * (c - min(counts)) for c in counts])
    # Kruskal's cut: no undirected tree has fewer changes in all than the one that the models grew by.
    total = sum(changed(models, parent, child) for child, parent in truth.items())
    assert total == spanning_changes(models)


def spanning_changes(models: dict[str, Weights]) -> int:
    """Changes along a minimum spanning tree, by Prim."""
    names = list(models)
    inside, total = {names[0]}, 0
    while len(inside) < len(names):
        cost, joins = min((changed(models, u, v), v) for u in inside for v in names if v not in inside)
        inside.add(joins)
        total += cost
    return total


def test_families_without_equal_tensors_are_told_nothing() -> None:
    root = start(1)
    assert (inheritance_costs(family_of({"root": root, "a": grow(root, 2), "b": grow(root, 3)})) == 0).all()


def test_scalars_may_meet_by_chance() -> None:
    root = start(1)
    models = {f"m{i}": grow(root, i) | {"scale": np.full(1, 7 + i % 2, np.float32)} for i in range(4)}
    assert (inheritance_costs(family_of(models)) == 0).all()


def test_a_child_of_few_biases_does_not_stand_in_for_its_parent() -> None:
    """By distance the parent and a child with new biases alone are one; a third model has the parent's biases."""
    root = start(1) | {f"layers.{i}.bias": np.random.default_rng(i).standard_normal(64).astype("f4") for i in range(6)}
    biases = grow({k: w for k, w in root.items() if k.endswith("bias")}, 5)
    models = {"z-root": root, "a-biases": root | biases}
    for i in range(5):
        trained = grow({k: w for k, w in root.items() if k.endswith("weight")}, 10 + i)
        models[f"b{i}"] = root | {k: w for j, (k, w) in enumerate(trained.items()) if j >= 2}
    found = parents_of(family_of(models))
    pairs = {frozenset((child, parent)) for child, (parent, _) in found.items()}
    assert pairs == {frozenset(("z-root", name)) for name in models if name != "z-root"}
