"""What a root has ahead: all of it among siblings that drift, less where its children stand apart from all others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.head_start import FEWEST, edge_margins, head_start, valley
from indexer.solve import solve_component
from tests.grown import family_of, grow, start


def test_two_groups_have_their_line_in_the_middle() -> None:
    children, others = np.linspace(8.0, 16.0, 21), np.linspace(-30.0, -10.0, 101)
    assert head_start(np.concatenate([children, others]), 9.0) == 4.0


def test_who_is_on_the_wrong_side_at_first_does_not_hold_the_line() -> None:
    """Half of what lies above the fitted line is of the others, in doubt: the line comes down in steps."""
    margins = np.concatenate([np.linspace(0.0, 16.0, 41), np.linspace(-9.5, -5.5, 35), np.full(400, -18.0)])
    assert head_start(margins, 10.0) == 5.0


def test_children_in_doubt_leave_what_was_fitted() -> None:
    """Siblings that drift: the root is behind for its own children too."""
    margins = np.concatenate([np.linspace(-7.0, 1.0, 100), np.linspace(-30.0, -9.0, 40)])
    assert head_start(margins, 8.7) == 8.7


def test_few_tell_nothing() -> None:
    few, many = np.full(FEWEST - 1, 12.0), np.full(100, -20.0)
    assert head_start(np.concatenate([few, many]), 8.0) == 8.0
    assert head_start(-np.concatenate([few, many]), 8.0) == 8.0
    assert head_start(np.append(np.concatenate([few, many]), 12.0), 8.0) == 4.0
    assert head_start(np.append(np.concatenate([few, many]), np.inf), 8.0) == 8.0


@given(st.lists(st.floats(-80.0, 80.0), max_size=60), st.floats(0.0, 10.0))
def test_it_is_of_the_members_alone(margins: list[float], most: float) -> None:
    told = head_start(np.array(margins), most)
    assert 0.0 <= told <= most
    assert told == head_start(np.array(sorted(margins)), most)


def test_damaged_models_may_cost_anything() -> None:
    """Their margins neither decide nor take memory."""
    margins = np.concatenate([np.linspace(-30.0, 30.0, 200), [1e12, 1e300, np.inf]])
    assert 0.0 <= valley(margins, 9.0) <= 9.0


def many(children: float, spread: float, k: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Margins of k children of a root and of 9,000 others, of which one in ten is a little in doubt."""
    rng = np.random.default_rng(seed)
    return rng.normal(children, spread, k), -rng.gamma(4.0, 6.0, 9_000)


@pytest.mark.parametrize("k", [30, 93, 3_000])
def test_a_roots_own_children_stand_apart_from_many_in_doubt(k: int) -> None:
    """One model in a hundred is a child of the root; more of the others than that lie above the fitted line."""
    children, others = many(9.0, 4.0, k)
    margins = np.concatenate([children, others])
    line = valley(margins, 10.0)
    assert (others > -10.0).sum() > 700
    assert (others > -line).sum() <= max(5, k // 100)
    assert (children < -line).sum() <= max(2, k // 40)
    assert line == valley(np.random.default_rng(1).permutation(margins), 10.0)


@pytest.mark.parametrize("children", [-6.0, -4.0, -2.0])
def test_where_siblings_drift_the_valley_is_on_their_other_side(children: float) -> None:
    """The root is behind for its own children too; nearly all of them hang on it all the same."""
    told, others = many(children, 3.0, 3_000)
    line = valley(np.concatenate([told, others]), 10.0)
    assert line > 7.0
    assert (told < -line).mean() < (told < -10.0).mean() + 0.05


def test_without_children_of_its_own_nothing_changes() -> None:
    _, others = many(0.0, 1.0, 0)
    assert valley(others, 10.0) == head_start(others, 10.0)
    assert valley(np.array([]), 10.0) == 10.0
    assert valley(np.full(500, np.inf), 10.0) == 10.0


@given(st.lists(st.floats(-80.0, 80.0), max_size=200), st.floats(0.0, 10.0))
def test_a_valley_lies_between_nothing_and_what_was_fitted(margins: list[float], most: float) -> None:
    told = valley(np.array(margins), most)
    assert 0.0 <= told <= most


def test_margins_are_against_the_cheapest_other() -> None:
    tail, head = np.array([0, 2, 3, 0, 1, 0]), np.array([1, 1, 1, 2, 2, 3])
    cost = np.array([5.0, 2.0, 3.0, 1.0, 9.0, 7.0])
    assert edge_margins(tail, head, cost, 0).tolist() == [-3.0, 8.0, np.inf]


@pytest.mark.parametrize(("seed", "dense"), [(3, 320), (4, 40)])
def test_a_deep_tree_is_not_drawn_to_its_root(seed: int, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole and by neighbourhoods: steps of very different length, and few children of the root."""
    rng = np.random.default_rng(seed)
    models, names = {"m000": start(seed, layers=4, width=24)}, ["m000"]
    parent: dict[str, str] = {}
    for i in range(1, 200):
        name, up = f"m{i:03d}", names[int(rng.integers(i))]
        parent[name] = parent.get(up, up) if rng.random() < 0.3 else up
        step = 0.06 * float(np.exp(0.8 * rng.standard_normal()))
        models[name] = grow(models[parent[name]], 100 + i, min(0.25, step))
        names.append(name)
    family = family_of(models)

    def right() -> int:
        edges = solve_component(family, dense=dense).edges
        return sum(parent.get(names[edge.child_id - 1]) == names[edge.parent_id - 1] for edge in edges)

    told = right()
    for name in ("ancestry.head_start", "large.valley"):
        monkeypatch.setattr(f"indexer.{name}", lambda _, most: most)
    assert told >= right() + 3


def test_where_numbers_only_fall_the_root_has_nothing_ahead() -> None:
    """Of very many models those in doubt are more than the root has children: the end of all others, and no valley."""
    rng = np.random.default_rng(3)
    others, children = rng.normal(-20.0, 5.5, 90_000), rng.normal(8.0, 3.0, 450)
    margins = np.concatenate([others, children])
    assert head_start(margins, 10.0) > 9.0
    assert valley(margins, 10.0) == 0.0
    assert (others > 0.0).sum() < 50 < 1_500 < (others > -10.0).sum()
    # Where nobody clearly hangs on the root, nothing is told.
    assert valley(others[others < -2.0], 10.0) == head_start(others[others < -2.0], 10.0)
