"""Dates that speak for another root of a tree: a definition that turns the tree to every model, and long runs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale.hub import SyntheticHub
from indexer.family import Family
from indexer.from_sketches import make_family
from indexer.metadata import Metadata, order_log_odds
from indexer.solve import solve_component
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


@settings(deadline=None)
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


def run_of(models: int) -> Family:
    """One run of small models, each trained on from the one before and uploaded after it, by their names."""
    hub = SyntheticHub(models, 3, shape="chain")
    made = sorted((hub.model(i) for i in range(models)), key=lambda model: model.name)
    rows = [
        (
            at,
            model.name,
            model.content_hash,
            model.created_at.timestamp() if model.created_at else np.nan,
            model.sketches,
        )
        for at, model in enumerate(made, 1)
    ]
    return make_family(made[0].architecture, rows, hub.roles(0))


def test_a_large_component_is_turned_to_the_end_that_came_first() -> None:
    """To within the four edges that it takes; and what is remembered of it, or of all but one, makes no difference."""
    family = run_of(150)
    first = set(family.model_ids[np.argsort(family.created)[:4]].tolist())
    metadata = Metadata(("s",) * len(family), ((),) * len(family))
    found = solve_component(family, metadata, dense=20)
    assert first - found.parents().keys()
    blind = solve_component(family, dense=20)
    assert not first - blind.parents().keys()
    again = solve_component(family, metadata, dense=20, stored=found.memory)
    assert (again.edges, again.stages) == (found.edges, found.stages)
    fewer = np.delete(np.arange(len(family)), 33)
    before = solve_component(family.take(fewer), metadata.take(fewer), dense=20)
    grown = solve_component(family, metadata, dense=20, stored=before.memory)
    assert (grown.edges, grown.stages) == (found.edges, found.stages)
