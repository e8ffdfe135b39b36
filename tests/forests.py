"""Directed graphs and their least spanning forests by definition: slow, exact, obvious."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.mdst import (
    minimum_directed_spanning_forest,
    minimum_directed_spanning_tree,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Edge = tuple[int, int, float]
Graph = tuple[int, list[Edge]]


def arrays(edges: list[Edge]) -> tuple[Ints, Ints, Floats]:
    return (
        np.array([e[0] for e in edges], np.int64),
        np.array([e[1] for e in edges], np.int64),
        np.array([e[2] for e in edges], np.float64),
    )


def forest_of(graph: Graph, root_weight: float | list[float]) -> list[int]:
    parent: list[int] = minimum_directed_spanning_forest(graph[0], *arrays(graph[1]), root_weight).tolist()
    return parent


def tree_of(graph: Graph, root: int | None = None) -> list[int]:
    parent: list[int] = minimum_directed_spanning_tree(graph[0], *arrays(graph[1]), root=root).tolist()
    return parent


def cheapest(edges: list[Edge]) -> dict[tuple[int, int], Fraction]:
    """The usable edges: no self loops, no inf, the lightest of each bundle; weights exact."""
    best: dict[tuple[int, int], Fraction] = {}
    for u, v, w in edges:
        if u != v and w != np.inf:
            best[u, v] = min(Fraction(w), best.get((u, v), Fraction(w)))
    return best


def cost_of(graph: Graph, parent: list[int], root_weight: list[float] | None = None) -> tuple[int, Fraction]:
    """(roots, weight) of an assignment, both exact; fails unless it is a forest of edges of the graph."""
    n, edges = graph
    best = cheapest(edges)
    assert len(parent) == n
    total, roots = Fraction(0), 0
    for v, p in enumerate(parent):
        seen, at = 0, v
        while at >= 0:
            at, seen = parent[at], seen + 1
            assert seen <= n, "a cycle"
        if p < 0:
            assert p == -1
            roots += 1
            total += Fraction(root_weight[v]) if root_weight else 0
        else:
            total += best[p, v]
    return roots, total


def every_assignment(graph: Graph) -> list[list[int]]:
    """Every spanning forest, by trying every assignment of parents."""
    n, edges = graph
    best = cheapest(edges)
    options = [[-1] + [u for u in range(n) if (u, v) in best] for v in range(n)]
    found = []
    for parent in itertools.product(*options):
        depth, at = 0, list(range(n))
        while depth <= n and any(v >= 0 for v in at):
            at = [parent[v] if v >= 0 else -1 for v in at]
            depth += 1
        if depth <= n:
            found.append(list(parent))
    return found


def definition(nodes: set[int], edges: dict[tuple[int, int], Fraction], root: int, fresh: int) -> dict[int, int]:
    """Parents of the least arborescence from `root`: contract one cycle, recurse, expand (Edmonds 1967)."""
    parent: dict[int, int] = {}
    for v in nodes - {root}:
        parent[v] = min((w, u) for (u, x), w in edges.items() if x == v)[1]
    cycle: list[int] = []
    for v in nodes:
        walk = [v]
        while walk[-1] in parent and parent[walk[-1]] not in walk:
            walk.append(parent[walk[-1]])
        if walk[-1] in parent:
            cycle = walk[walk.index(parent[walk[-1]]) :]
            break
    if not cycle:
        return parent
    ring = set(cycle)
    outside: dict[tuple[int, int], Fraction] = {}
    origin: dict[tuple[int, int], tuple[int, int]] = {}
    for (u, v), w in edges.items():
        if u in ring and v in ring:
            continue
        reduced = w - edges[parent[v], v] if v in ring else w
        key = (fresh if u in ring else u, fresh if v in ring else v)
        if key not in outside or reduced < outside[key]:
            outside[key], origin[key] = reduced, (u, v)
    inner = definition((nodes - ring) | {fresh}, outside, root, fresh + 1)
    result = {v: parent[v] for v in ring}
    for v, p in inner.items():
        u, x = origin[p, v]
        result[x] = u
    return result


def least(graph: Graph, root_weight: list[float]) -> Fraction:
    """Weight of the least forest, by the definition, with the virtual root as node n."""
    n, edges = graph
    best = cheapest(edges)
    best.update({(n, v): Fraction(r) for v, r in enumerate(root_weight) if r != np.inf})
    parent = definition(set(range(n + 1)), best, n, n + 1)
    return sum((best[p, v] for v, p in parent.items()), Fraction(0))


def least_pair(graph: Graph) -> tuple[int, Fraction]:
    """(roots, weight) of the least tree, by the definition with a large constant: exact in fractions."""
    large = 1 + 2 * sum((abs(w) for w in cheapest(graph[1]).values()), Fraction(0))
    n, edges = graph
    best = cheapest(edges) | {(n, v): large for v in range(n)}
    parent = definition(set(range(n + 1)), best, n, n + 1)
    roots = sum(p == n for p in parent.values())
    return roots, sum((best[p, v] for v, p in parent.items() if p != n), Fraction(0))


def random_graph(seed: int, n: int, edges: int, low: int = -9, high: int = 10) -> Graph:
    """Integer weights, so ties; self loops, parallel edges and a few edges of +inf among them."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(low, high, edges).astype(np.float64)
    weight[rng.random(edges) < 0.05] = np.inf
    ends = rng.integers(0, n, (2, edges))
    return n, list(zip(ends[0].tolist(), ends[1].tolist(), weight.tolist(), strict=True))


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 7, weights: st.SearchStrategy[float] | None = None) -> Graph:
    n = draw(st.integers(1, max_nodes))
    node = st.integers(0, n - 1)
    weight = st.integers(-3, 3).map(float) if weights is None else weights
    return n, draw(st.lists(st.tuples(node, node, weight), max_size=4 * n))
