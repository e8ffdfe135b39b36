"""What speaks for a root: its features move as their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.cues import CUES
from indexer.roots import FEATURES, WEIGHTS, RootedTree, root_features, subtree_sizes


def features(parent: list[int], cues: dict[str, np.ndarray] | None = None) -> dict[str, float]:
    n = len(parent)
    tree = np.array(parent, np.int64)
    zero = np.zeros((n, n))
    rooted = RootedTree(parent.index(-1), tree, 0.0, tree, zero)
    measured = ~np.eye(n, dtype=bool)
    values = root_features(rooted, zero, {name: (cues or {}).get(name, zero) for name in CUES}, measured)
    return dict(zip(FEATURES, values.tolist(), strict=True))


def rooted_at(edges: list[tuple[int, int]], root: int) -> list[int]:
    parent = [-1] * (len(edges) + 1)
    waiting, seen = [root], {root}
    while waiting:
        at = waiting.pop()
        for a, b in edges:
            for u, v in ((a, b), (b, a)):
                if u == at and v not in seen:
                    parent[v] = at
                    seen.add(v)
                    waiting.append(v)
    return parent


@given(st.lists(st.integers(0, 20), min_size=1, max_size=7))
def test_subtree_sizes_count_orders_of_arrival(draws: list[int]) -> None:
    """n! over the product of subtree sizes is the number of orders in which parents come before children."""
    parent = [-1] + [p % (at + 1) for at, p in enumerate(draws)]
    sizes = subtree_sizes(np.array(parent))
    assert sizes[0] == len(parent)

    def orders(present: frozenset[int]) -> int:
        if len(present) == len(parent):
            return 1
        ready = [v for v in range(len(parent)) if v not in present and (parent[v] in present or parent[v] < 0)]
        return sum(orders(present | {v}) for v in ready)

    assert math.factorial(len(parent)) / np.prod(sizes) == pytest.approx(orders(frozenset()))


def test_a_run_began_at_one_of_its_ends() -> None:
    path = [(i, i + 1) for i in range(9)]
    chains = [features(rooted_at(path, root))["chains"] for root in range(10)]
    assert chains[0] == chains[9] == max(chains)
    assert max(chains[1:9]) < chains[0] - 1


def test_a_base_with_children_is_no_links_of_a_chain() -> None:
    star = [(0, i) for i in range(1, 6)]
    assert features(rooted_at(star, 0))["chains"] > features(rooted_at(star, 1))["chains"]
    assert features(rooted_at(star, 0))["arrivals"] > features(rooted_at(star, 1))["arrivals"]


def test_cues_to_all_speak_for_the_root_that_they_come_from() -> None:
    n = 5
    spread = np.zeros((n, n))
    spread[0, 1:], spread[1:, 0] = 1.0, -1.0
    star = [(0, i) for i in range(1, n)]
    of = [features(rooted_at(star, root), {"increment_spread": spread})["increment_spread"] for root in range(n)]
    assert of[0] == pytest.approx(math.sqrt(n) * CUES["increment_spread"].weight)
    assert max(of[1:]) < 0


def test_more_witnesses_of_one_kind_tell_no_more() -> None:
    found = []
    for n in (9, 20):
        spread = np.zeros((n, n))
        spread[0, 1:] = 1.0
        star = [(0, i) for i in range(1, n)]
        found.append(features(rooted_at(star, 0), {"increment_spread": spread})["increment_spread"])
    assert found[0] == pytest.approx(found[1])


def test_kurtosis_along_a_tree_counts_either_way_as_long_as_it_is_one_way() -> None:
    path = rooted_at([(i, i + 1) for i in range(5)], 0)
    fall = np.zeros((6, 6))
    for i in range(5):
        fall[i, i + 1], fall[i + 1, i] = 1.0, -1.0
    mixed = fall * np.sign(np.outer([1, 1, -1, 1, -1, 1], [1, 1, 1, 1, 1, 1]))
    stages = [features(path, {"kurtosis": k})["stage"] for k in (fall, -fall, mixed)]
    assert stages[0] > stages[1] > stages[2]


def test_one_weight_a_feature() -> None:
    assert WEIGHTS.shape == (len(FEATURES),)
    assert (WEIGHTS >= 0).all()


def test_what_regression_says_does_not_favour_a_root_with_few_children() -> None:
    """In a star nobody is a sibling's parent: that speaks for the hub as much as each edge speaks for a leaf."""
    n = 12
    star = [(0, i) for i in range(1, n)]
    of_hub = np.full((n, n), -3.0)
    of_leaf = np.full((n, n), -3.0)
    of_leaf[0] = 3.0
    told = {}
    for root, odds in ((0, of_hub), (1, of_leaf)):
        odds[root] = 0.0
        tree = np.array(rooted_at(star, root), np.int64)
        zero = np.zeros((n, n))
        rooted = RootedTree(root, tree, 0.0, tree, odds)
        values = root_features(rooted, zero, dict.fromkeys(CUES, zero), ~np.eye(n, dtype=bool))
        told[root] = float(values[FEATURES.index("regressed")])
    assert told[0] == pytest.approx(told[1])
    # Where siblings drift together they look like one another's parents, which says nothing.
    of_hub[1:, 1:] = 1.0
    drifted = RootedTree(0, np.array(rooted_at(star, 0), np.int64), 0.0, np.array(rooted_at(star, 0), np.int64), of_hub)
    values = root_features(drifted, zero, dict.fromkeys(CUES, zero), ~np.eye(n, dtype=bool))
    assert values[FEATURES.index("regressed")] == 0.0
