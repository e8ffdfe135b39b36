"""Minimum directed spanning trees against every assignment, a textbook recursion and networkx."""

from __future__ import annotations

from time import perf_counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.mdst import (
    _solve,
    dense_minimum_directed_spanning_tree,
    minimum_directed_spanning_forest,
    minimum_directed_spanning_tree,
)
from tests.forests import (
    Graph,
    cheapest,
    cost_of,
    every_assignment,
    forest_of,
    graphs,
    least,
    least_pair,
    random_graph,
    tree_of,
)


@pytest.mark.parametrize("seed", range(150))
def test_no_assignment_is_better(seed: int) -> None:
    n = 5 if seed % 10 == 0 else 1 + seed % 4
    graph = random_graph(seed, n, int(np.random.default_rng(seed).integers(0, 4 * n)), -4, 5)
    root_weight = np.random.default_rng(seed + 1).integers(-4, 8, n).astype(float).tolist()
    every = every_assignment(graph)
    assert cost_of(graph, forest_of(graph, root_weight), root_weight)[1] == min(
        cost_of(graph, p, root_weight)[1] for p in every
    )
    assert cost_of(graph, tree_of(graph)) == min(cost_of(graph, p) for p in every)
    for root in range(n):
        from_root = [cost_of(graph, p) for p in every if p[root] == -1 and p.count(-1) == 1]
        if from_root:
            parent = tree_of(graph, root)
            assert parent[root] == -1
            assert cost_of(graph, parent) == min(from_root)
        else:
            with pytest.raises(ValueError, match=f"of {n} nodes cannot be reached from root {root}"):
                tree_of(graph, root)


@pytest.mark.parametrize("seed", range(300))
def test_weighs_what_networkx_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 31))
    graph = random_graph(seed, n, int(rng.integers(0, 5 * n)), *((0, 3) if seed % 3 == 0 else (-20, 21)))
    root_weight = rng.integers(-5, 25, n).astype(float).tolist()
    best = cheapest(graph[1])
    net: nx.DiGraph[int] = nx.DiGraph()
    net.add_nodes_from(range(n))
    net.add_weighted_edges_from((u, v, float(w)) for (u, v), w in best.items())

    roots, weight = cost_of(graph, tree_of(graph))
    sources = [c for c in nx.strongly_connected_components(net) if not set(nx.ancestors(net, next(iter(c)))) - c]
    assert roots == len(sources)
    if roots == 1:
        tree = nx.minimum_spanning_arborescence(net)
        assert weight == sum(d["weight"] for _, _, d in tree.edges(data=True))
    net.add_weighted_edges_from((n, v, w) for v, w in enumerate(root_weight))
    forest = nx.minimum_spanning_arborescence(net)
    expected = sum(d["weight"] for _, _, d in forest.edges(data=True))
    assert cost_of(graph, forest_of(graph, root_weight), root_weight)[1] == expected


@settings(deadline=None, max_examples=200)
@given(graphs(), st.lists(st.sampled_from([-2.0, 0.0, 1.0, 3.0, np.inf]), min_size=7, max_size=7))
def test_matches_the_definition(graph: Graph, root_weight: list[float]) -> None:
    n, edges = graph
    assert cost_of(graph, tree_of(graph)) == least_pair(graph)
    costs = root_weight[:n]
    reached = {v for v in range(n) if costs[v] != np.inf}
    for _ in range(n):
        reached |= {v for u, v in cheapest(edges) if u in reached}
    if len(reached) < n:
        with pytest.raises(ValueError, match=f"^{n - len(reached)} of {n} nodes cannot be reached from any of"):
            forest_of(graph, costs)
    else:
        parent = forest_of(graph, costs)
        assert cost_of(graph, parent, costs)[1] == least(graph, costs)
        assert all(p >= 0 or c < np.inf for p, c in zip(parent, costs, strict=True))


@settings(deadline=None, max_examples=100)
@given(graphs(6, st.floats(-1e3, 1e3)), st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_matches_the_definition_up_to_rounding(graph: Graph, root_weight: list[float]) -> None:
    costs = root_weight[: graph[0]]
    assert float(cost_of(graph, forest_of(graph, costs), costs)[1] - least(graph, costs)) <= 1e-9
    roots, weight = least_pair(graph)
    mine = cost_of(graph, tree_of(graph))
    assert mine[0] == roots
    assert float(mine[1] - weight) <= 1e-9


@settings(deadline=None, max_examples=100)
@given(graphs(6, st.integers(-(2**48), 2**48).map(float)))
def test_fewest_roots_costs_no_precision(graph: Graph) -> None:
    assert cost_of(graph, tree_of(graph)) == least_pair(graph)


@settings(deadline=None, max_examples=200)
@given(st.data(), graphs(9, st.sampled_from([-0.0, 0.0, 0.1, 0.2, 0.30000000000000004, 0.3, -0.1, np.inf])))
def test_the_order_of_the_edges_does_not_matter(data: st.DataObject, graph: Graph) -> None:
    n, edges = graph
    other = n, data.draw(st.permutations(edges))
    assert tree_of(graph) == tree_of(other)
    assert forest_of(graph, 0.2) == forest_of(other, 0.2)


def test_the_order_of_many_edges_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    tail, head = rng.integers(0, 500, (2, 6000))
    for weight in (rng.integers(0, 4, 6000) / 10, rng.random(6000), np.zeros(6000)):
        expected = minimum_directed_spanning_tree(500, tail, head, weight)
        for _ in range(5):
            order = rng.permutation(6000)
            again = minimum_directed_spanning_tree(500, tail[order], head[order], weight[order])
            np.testing.assert_array_equal(again, expected)


def test_ties_go_to_the_root_and_then_to_the_smaller_tail() -> None:
    edges = [(2, 3, 1.0), (1, 3, 1.0), (0, 3, 2.0)]
    assert forest_of((4, edges), [0, 0, 0, 5]) == [-1, -1, -1, 1]
    assert forest_of((4, edges), [0, 0, 0, 1]) == [-1, -1, -1, -1]
    assert tree_of((3, [(u, v, 1.0) for u in range(3) for v in range(3)])) == [-1, 0, 0]


def test_ties_into_a_cycle() -> None:
    #  2 --6--> 0 <==> 1 <--7-- 3     0 -> 1 costs 2 and 1 -> 0 costs 1, so that either way in costs 5 more
    cycle = [(0, 1, 2.0), (1, 0, 1.0)]
    dear: list[float] = [99, 99, 0, 0]
    assert forest_of((4, [*cycle, (2, 0, 6), (3, 1, 7)]), dear) == [2, 0, -1, -1]
    assert forest_of((4, [*cycle, (3, 0, 6), (2, 1, 7)]), dear) == [1, 2, -1, -1]  # the smaller tail
    assert forest_of((4, [*cycle, (2, 0, 6), (2, 1, 7)]), dear) == [2, 0, -1, -1]  # the smaller head
    assert forest_of((4, [*cycle, (2, 0, 6)]), [99, 7, 0, 0]) == [1, -1, -1, -1]  # the root before any tail
    assert forest_of((4, cycle), [6, 7, 0, 0]) == [-1, 0, -1, -1]  # of two roots the smaller


@settings(deadline=None, max_examples=100)
@given(graphs(), st.integers(-3, 4))
def test_no_edge_costs_as_much_as_its_root(graph: Graph, root_weight: int) -> None:
    best = cheapest(graph[1])
    for v, p in enumerate(forest_of(graph, root_weight)):
        assert p < 0 or best[p, v] < root_weight


@pytest.mark.parametrize("seed", range(150))
def test_cycles_within_cycles(seed: int) -> None:
    """Few edges, each with the same weight both ways: every pair is a cycle, and cycles nest deep."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 50))
    tail = rng.integers(0, n, int(n * rng.uniform(0.8, 3)))
    head = (tail + rng.integers(-3, 4, len(tail))) % n if seed % 2 else rng.integers(0, n, len(tail))
    weight = rng.integers(0, 50, len(tail)).astype(float)
    edges = list(zip(tail.tolist(), head.tolist(), weight.tolist(), strict=True))
    graph = n, edges + [(v, u, w) for u, v, w in edges]
    root_weight = rng.integers(0, 60, n).astype(float).tolist()
    assert cost_of(graph, tree_of(graph)) == least_pair(graph)
    assert cost_of(graph, forest_of(graph, root_weight), root_weight)[1] == least(graph, root_weight)


def test_long_paths_and_long_cycles() -> None:
    n = 200_000
    at = np.arange(n)
    down = minimum_directed_spanning_tree(n, at[:-1], at[1:], np.ones(n - 1))
    np.testing.assert_array_equal(down, at - 1)
    up = minimum_directed_spanning_tree(n, at[1:], at[:-1], np.ones(n - 1))
    np.testing.assert_array_equal(up, np.append(at[1:], -1))
    weight = np.ones(n)
    weight[n // 2] = 2  # the edge to leave out of the ring
    ring = minimum_directed_spanning_tree(n, at, (at + 1) % n, weight)
    assert np.flatnonzero(ring < 0).tolist() == [n // 2 + 1]
    # A path both ways, each step back dearer than all before: one contraction inside the next, n - 1 deep.
    both = minimum_directed_spanning_tree(
        n, np.r_[at[:-1], at[1:]], np.r_[at[1:], at[:-1]], np.r_[np.ones(n - 1), np.arange(2.0, n + 1)]
    )
    np.testing.assert_array_equal(both, at - 1)


def test_fifty_thousand_nodes() -> None:
    rng = np.random.default_rng(0)
    n, k = 50_000, 10
    tail, head, weight = rng.integers(0, n, n * k), np.repeat(np.arange(n), k), rng.normal(size=n * k)
    minimum_directed_spanning_tree(1, [], [], [])  # compile
    began = perf_counter()
    parent = minimum_directed_spanning_tree(n, tail, head, weight)
    forest = minimum_directed_spanning_forest(n, tail, head, weight, -1.5)
    assert perf_counter() - began < 10
    assert np.count_nonzero(parent < 0) <= np.count_nonzero(forest < 0)
    known = set((tail * n + head).tolist())
    for p in (parent, forest):
        child = np.flatnonzero(p >= 0)
        assert set((p[child] * n + child).tolist()) <= known
        top = p
        for _ in range(17):  # after 2 ** 17 steps up everyone is above a root
            top = np.where(top >= 0, top[top], -1)
        assert (top == -1).all()


def test_small_and_odd_inputs() -> None:
    assert minimum_directed_spanning_tree(0, [], [], []).tolist() == []
    assert minimum_directed_spanning_forest(0, [], [], [], []).dtype == np.int64
    assert minimum_directed_spanning_forest(3, [], [], [], 1.0).tolist() == [-1, -1, -1]
    assert minimum_directed_spanning_tree(2, [0, 1, 1], [0, 1, 1], [-9, -9, np.inf]).tolist() == [-1, -1]
    assert minimum_directed_spanning_tree(2, [0, 0], [1, 1], [np.inf, 1]).tolist() == [-1, 0]
    assert minimum_directed_spanning_forest(3, [0, 1], [1, 2], [-5, 4], 9.0, root=0).tolist() == [-1, 0, 1]
    # A forced root turns even a negative edge away.
    assert minimum_directed_spanning_tree(2, [0, 1], [1, 0], [3, -8], root=0).tolist() == [-1, 0]
    assert minimum_directed_spanning_forest(2, [0, 1], [1, 0], [3, -8], 0.0, root=0).tolist() == [-1, 0]


@pytest.mark.parametrize("dtypes", [("i8", "i8", "f8"), ("u2", ">i4", "f4")])
def test_inputs_are_left_alone_and_may_be_read_only(dtypes: tuple[str, str, str]) -> None:
    given = ([0, 1, 2, 2], [1, 2, 0, 1], [2, 1, 3, 1])
    for step in (1, 2):
        arrays = [np.repeat(np.array(a, d), step)[::step] for a, d in zip(given, dtypes, strict=True)]
        for a in arrays:
            a.flags.writeable = False
        assert minimum_directed_spanning_tree(3, *arrays).tolist() == [-1, 0, 1]
        assert tuple(a.tolist() for a in arrays) == given
    assert len(_solve.signatures) == 1  # whatever the input, numba compiled once


@pytest.mark.parametrize("root", [None, 3])
def test_dense_is_sparse(root: int | None) -> None:
    rng = np.random.default_rng(1)
    M = rng.integers(0, 9, (12, 12)).astype(float)
    M[rng.random((12, 12)) < 0.3] = np.inf
    edges = [(i, j, float(M[i, j])) for i in range(12) for j in range(12)]
    assert dense_minimum_directed_spanning_tree(M, root=root).tolist() == tree_of((12, edges), root)
    assert dense_minimum_directed_spanning_tree(np.zeros((0, 0))).tolist() == []


@pytest.mark.parametrize(
    ("n", "tail", "head", "weight", "root_weight", "root", "message"),
    [
        (-1, [], [], [], 0.0, None, "n is -1; expected between 0 and"),
        (2, [0, 2], [1, 1], [1, 1], 0.0, None, r"tail\[1\] is 2; expected a node, from 0 to 1"),
        (2, [0], [-1], [1], 0.0, None, r"head\[0\] is -1; expected a node, from 0 to 1"),
        (0, [0], [0], [1], 0.0, None, r"tail\[0\] is 0"),
        (2, [0.0], [1], [1], 0.0, None, "tail has dtype float64; expected integers"),
        (2, [0], [1, 0], [1], 0.0, None, r"shapes \(1,\), \(2,\), \(1,\)"),
        (2, [[0]], [[1]], [[1]], 0.0, None, "expected flat arrays of one length"),
        (2, [0, 1], [1, 0], [1, np.nan], 0.0, None, r"weight\[1\] is nan"),
        (2, [0, 0], [1, 0], [1, np.nan], 0.0, None, r"weight\[1\] is nan"),
        (2, [0], [1], [-np.inf], 0.0, None, r"weight\[0\] is -inf; expected a number or \+inf"),
        (2, [0], [1], [1], [0.0, np.nan], None, r"root_weight\[1\] is nan"),
        (2, [0], [1], [1], -np.inf, None, r"root_weight\[0\] is -inf"),
        (2, [0], [1], [1], [0.0], None, r"root_weight has shape \(1,\); expected one number, or 2"),
        (2, [0], [1], [1], 0.0, 2, "root is 2; expected a node, from 0 to 1"),
        (4, [0, 2, 3], [1, 3, 2], [1, 1, 1], 0.0, 0, "2 of 4 nodes cannot be reached from root 0"),
        (3, [0, 1], [1, 2], [1, np.inf], 0.0, 0, "1 of 3 nodes cannot be reached from root 0"),
        (3, [0], [1], [1], np.inf, None, "3 of 3 nodes cannot be reached from any of the 0 permitted roots"),
        (
            3,
            [0, 1, 2],
            [1, 0, 1],
            [1, 1, -5],
            [1, np.inf, np.inf],
            None,
            "^1 of 3 nodes cannot be reached from any of the 1 permitted",
        ),
    ],
)
def test_refusals(
    n: int,
    tail: list[int],
    head: list[int],
    weight: list[float],
    root_weight: float | list[float],
    root: int | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        minimum_directed_spanning_forest(n, tail, head, weight, root_weight, root=root)


def test_dense_refuses_what_is_not_square() -> None:
    with pytest.raises(ValueError, match=r"M has shape \(2, 3\); expected a square matrix"):
        dense_minimum_directed_spanning_tree(np.zeros((2, 3)))
