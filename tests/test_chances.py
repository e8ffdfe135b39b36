"""Confidences of a large component against their definition, edge by edge."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.ancestry import TEMPERATURE
from indexer.chances import Chances, told_by_chances


def below(parent: np.ndarray, v: int, node: int) -> bool:
    """Is a node at or below v?"""
    while node >= 0:
        if node == v:
            return True
        node = int(parent[node])
    return False


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 14), st.integers(0, 1 << 20))
def test_chances_are_those_of_all_candidate_edges(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parent = np.array([-1, *(int(rng.integers(v)) for v in range(1, n))])
    cost = {(int(parent[v]), v): float(rng.normal()) for v in range(1, n)}
    for u, v in rng.integers(0, n, (3 * n, 2)).tolist():
        if u != v and v:
            cost.setdefault((u, v), float(rng.normal()))
    ends = sorted(cost)
    tails, heads = np.array(ends).T
    edges = Chances(tails, heads, np.array([cost[end] for end in ends]))
    posterior = np.array([0.75, 0.25])
    told = told_by_chances(edges, parent, 0, np.array([0, n - 1]), posterior)
    for v in range(1, n):
        costs = {}
        for (u, head), value in cost.items():
            if head == v:
                swapped = cost.get((int(parent[v]), u), np.inf) - cost.get((v, u), np.inf) if parent[u] == v else np.inf
                costs[u] = value + (swapped if below(parent, v, u) else 0.0)
        least = min(costs.values())
        chances = {u: float(np.exp((least - value) / TEMPERATURE)) for u, value in costs.items()}
        whole = sum(chances.values())
        turned = sum(chance for root, chance in zip((0, n - 1), posterior, strict=True) if below(parent, v, root))
        np.testing.assert_allclose(told.confidence[v], chances[int(parent[v])] / whole * (1 - turned))
        others = {u: chance / whole for u, chance in chances.items() if u != parent[v] and chance > 0}
        np.testing.assert_allclose(told.runner_up_confidence[v], max(others.values(), default=0.0))
        assert (told.runner_up[v] in others) if others else told.runner_up[v] == -1
    assert told.confidence[0] == 0.75
