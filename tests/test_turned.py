"""Dates that speak for another root of a tree: a definition that turns the tree to every model, and long runs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.metadata import order_log_odds
from indexer.turned import CLEARLY, dated_root

DAY = 86_400.0


def turned(parent: list[int], root: int) -> list[int]:
    """The same tree, hung up at `root`."""
    result, at, above = list(parent), root, -1
    while at >= 0:
        result[at], at, above = above, parent[at], at
    return result


def speak_for(parent: list[int], created: np.ndarray) -> float:
    """Summed log-odds of dates for the directions of a tree's edges."""
    return sum(
        float(order_log_odds(np.array((created[v] - created[u]) / DAY))) / 2 for v, u in enumerate(parent) if u >= 0
    )


@given(
    st.lists(st.integers(0, 20), min_size=0, max_size=12),
    st.lists(st.one_of(st.just(float("nan")), st.floats(0.0, 100.0)), min_size=13, max_size=13),
)
def test_it_is_the_root_that_turns_most_edges_to_where_dates_have_them(draws: list[int], days: list[float]) -> None:
    parent = [-1] + [p % (at + 1) for at, p in enumerate(draws)]
    created = DAY * np.array(days[: len(parent)], np.float64)
    told = [speak_for(turned(parent, root), created) for root in range(len(parent))]
    found = dated_root(np.array(parent), created)
    if max(told) > told[0] + CLEARLY + 1e-6:
        assert told[found] > max(told) - 1e-6
    elif max(told) < told[0] + CLEARLY - 1e-6:
        assert found == 0


def test_a_run_begins_where_dates_have_its_end() -> None:
    run = np.arange(40) - 1
    created = np.arange(40, dtype=np.float64) * (7 * DAY)
    assert dated_root(run, created) == 0
    middle = np.array(turned(run.tolist(), 25))
    assert dated_root(middle, created) == 0
    assert dated_root(middle, np.full(40, np.nan)) == 25
    assert dated_root(middle, created[::-1].copy()) == 39


def test_a_base_that_was_uploaded_again_stays_the_root() -> None:
    star = np.concatenate([[-1, 0], np.zeros(50, np.int64), np.ones(20, np.int64)])
    created = np.arange(len(star), dtype=np.float64) * DAY
    created[0] = 500 * DAY
    assert dated_root(star, created) == 0
