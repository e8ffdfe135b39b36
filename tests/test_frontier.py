"""What is new on a Hub is learned and what has gone is found, whatever shifts, breaks off, dies or is out of time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import crawl.frontier
from crawl.listing import OVERLAP, Descent
from store.errors import RetryError
from store.writer import GraphWriter
from tests.listed_hub import ListedHub, filled, in_memory, live, run

NOW = datetime(2031, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """What a process does not survive."""


@pytest.fixture
def writer() -> GraphWriter:
    return in_memory()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are long: what is new is learned from their tops."""
    monkeypatch.setattr(crawl.frontier, "SMALL_PAGES", 0)


NAMES = st.sampled_from([f"org/m{at}" for at in range(8)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["create", "push", "delete"]), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("hours"), st.integers(0, 200)),
        # A night: what happens after which page, and whether it breaks off, dies there, or dies while it reads.
        st.tuples(
            st.just("night"),
            st.integers(1, 6),
            st.sampled_from(["fine", "breaks", "dies", "dies reading"]),
            st.lists(st.tuples(st.sampled_from(["create", "push", "delete"]), NAMES), max_size=3),
        ),
    ),
    max_size=10,
)


def apply(hub: ListedHub, step: tuple[Any, ...]) -> None:
    kind, name = step[0], step[1]
    if kind == "hours":
        hub.pass_time(hours=name)
    elif kind == "create" and name not in hub.repositories:
        hub.create(name)
    elif kind in ("push", "delete") and name in hub.repositories:
        getattr(hub, kind)(name)
    elif kind == "rename" and name in hub.repositories and step[2] not in hub.repositories:
        hub.rename(name, step[2])


def night(hub: ListedHub, writer: GraphWriter, step: tuple[Any, ...]) -> None:
    _, when, how, meanwhile = step
    begun = hub.pages_asked

    def between(page: int) -> None:
        if page - begun != when:
            return
        for each in meanwhile:
            hub.pass_time(seconds=1)
            apply(hub, each)
        if how == "breaks":
            raise RetryError("504")
        if how == "dies":
            raise Killed

    hub.between = between
    with suppress(Killed, RetryError):
        run(hub, writer, reading=when if how == "dies reading" else None)
    hub.between = lambda page: None


@pytest.mark.parametrize("pages", [0, 10])
def test_after_a_calm_night_the_graph_holds_what_the_hub_shows(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl.frontier, "SMALL_PAGES", pages)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS, st.integers(1, 4))
    def law(steps: list[tuple[Any, ...]], page_size: int) -> None:
        writer = in_memory()
        hub = ListedHub(page_size=page_size)
        for step in steps:
            if step[0] == "night":
                night(hub, writer, step)
            else:
                apply(hub, step)
        hub.pass_time(hours=1)
        run(hub, writer)
        assert live(writer) == hub.shown()
        before = hub.asked.copy(), live(writer)
        run(hub, writer)
        assert (hub.asked, live(writer)) == before or pages == 0

    law()


def test_what_is_new_costs_the_pages_that_hold_it(writer: GraphWriter, large: None) -> None:
    hub = filled(60)
    run(hub, writer)
    assert hub.pages_asked == 20
    assert live(writer) == hub.shown()
    hub.create("org/new")
    hub.push("org/m3")
    hub.pages_asked = 0
    run(hub, writer)
    assert live(writer) == hub.shown()
    assert hub.pages_asked <= 4
    assert len(hub.asked) < 60


def test_a_list_is_followed_to_its_end_every_seventh_day_and_when_it_is_short(
    writer: GraphWriter, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = filled(30)
    hub.private.add("org/m0")
    run(hub, writer)
    hub.private.clear()
    hub.pass_time(days=6.9)
    run(hub, writer)
    # It is as old as it was when it could not be seen.
    assert "org/m0" not in live(writer)
    hub.pass_time(days=0.1)
    run(hub, writer)
    assert live(writer) == hub.shown()
    monkeypatch.setattr(crawl.frontier, "SMALL_PAGES", 10)
    hub.pages_asked = 0
    run(hub, writer)
    assert hub.pages_asked == 10


def test_a_hub_without_order_is_read_whole(writer: GraphWriter, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = filled(9)
    monkeypatch.setattr("tests.listed_hub._key", lambda each, sort: int(each.revision, 16) * 7 % 11)
    run(hub, writer)
    hub.create("org/new")
    hub.push("org/m4")
    run(hub, writer)
    assert live(writer) == hub.shown()


def test_a_model_from_the_future_hides_none(writer: GraphWriter, large: None) -> None:
    hub = filled(9)
    hub.pass_time(days=30_000)
    hub.create("org/future")
    hub.pass_time(days=-30_000)
    run(hub, writer)
    hub.pass_time(days=1)
    hub.create("org/next")
    hub.push("org/m0")
    run(hub, writer)
    assert live(writer) == hub.shown()


def test_a_limit_is_gone_on_from(writer: GraphWriter) -> None:
    hub = filled(10, limit=3)
    for expected in (3, 6, 9, 10, 10):
        run(hub, writer)
        assert len(live(writer)) == expected
    assert writer.connection.execute("select full_pages from listings").fetchall() == [(4,)]


def test_the_most_downloaded_come_first(writer: GraphWriter) -> None:
    hub = filled(10, limit=2, sort="downloads")
    for at in range(10):
        old = hub.repositories[f"org/m{at}"]
        hub.repositories[old.name] = type(old)(old.name, old.revision, old.hub_id, downloads=at * 7 % 10)
    run(hub, writer)
    assert sorted(live(writer)) == ["org/m4", "org/m7"]
    run(hub, writer)
    assert sorted(live(writer)) == ["org/m1", "org/m4", "org/m7", "org/m8"]


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 5), st.integers(0, 100))
def test_a_descent_ends_when_a_whole_page_is_older(hours: list[int], size: int, until: int) -> None:
    times = [NOW + timedelta(hours=hour) for hour in sorted(hours, reverse=True)]
    descent = Descent(NOW + timedelta(hours=until))
    read = 0
    for at in range(0, len(times), size):
        page = times[at : at + size]
        read += len(page)
        if descent.has_ended(page):
            break
    assert all(when < NOW + timedelta(hours=until) for when in times[read:])
    assert read <= size * (sum(hour >= until for hour in hours) // size + 1) + size
    assert timedelta(hours=1) < OVERLAP
