"""What a Hub says of each repository from run to run: its state, its names, and what could not be read of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import crawl.frontier
from store.progress import SilentProgress
from store.writer import GraphWriter
from tests.listed_hub import SOURCE, filled, in_memory, live, run


@pytest.fixture
def writer() -> GraphWriter:
    return in_memory()


def state(writer: GraphWriter, name: str) -> Any:
    return writer.connection.execute(
        "select state, since, moved_to, due_at from repositories where name = ?", [name]
    ).fetchone()


def test_states_have_a_beginning_and_are_looked_at_again_at_longer_and_longer_intervals(writer: GraphWriter) -> None:
    hub = filled(3)
    run(hub, writer)
    hub.private.add("org/m1")
    hub.delete("org/m2")
    frontier = run(hub, writer)
    assert frontier.removed == 2
    began = hub.now.replace(tzinfo=None)
    assert state(writer, "org/m1") == ("private", began, None, began + timedelta(days=1))
    assert state(writer, "org/m2")[0] == "deleted"
    looked = []
    for day in range(35):
        hub.pass_time(days=1)
        hub.asked.clear()
        run(hub, writer)
        assert set(hub.asked) in (set(), {"org/m1", "org/m2"})
        looked += [day + 1] * bool(hub.asked)
    assert looked == [1, 3, 7, 15, 31]
    assert state(writer, "org/m1")[:2] == ("private", began)
    hub.private.clear()
    run(hub, writer)
    assert state(writer, "org/m1") == ("live", hub.now.replace(tzinfo=None), None, None)
    assert live(writer) == hub.shown()


def test_a_renamed_model_keeps_its_id(writer: GraphWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    # The list is long: its top alone is read.
    monkeypatch.setattr(crawl.frontier, "SMALL_PAGES", 0)
    hub = filled(3)
    run(hub, writer)
    ids = dict(writer.connection.execute("select name, model_id from live_models").fetchall())
    hub.rename("org/m1", "lab/one")
    frontier = run(hub, writer)
    assert frontier.removed == 0
    assert live(writer) == hub.shown()
    after = dict(writer.connection.execute("select name, model_id from live_models").fetchall())
    assert after == {"org/m0": ids["org/m0"], "lab/one": ids["org/m1"], "org/m2": ids["org/m2"]}
    assert state(writer, "org/m1")[::2] == ("renamed", "lab/one")
    hub.push("lab/one")
    run(hub, writer)
    assert live(writer) == hub.shown()


def test_all_names_that_a_model_had_lead_to_it(writer: GraphWriter) -> None:
    hub = filled(2)
    run(hub, writer)

    def renames() -> list[tuple[str, str]]:
        return writer.connection.execute("select name, renamed_to from renames order by name").fetchall()

    for old, new in (("org/m1", "lab/one"), ("lab/one", "lab/two")):
        hub.rename(old, new)
        run(hub, writer)
        hub.push(new)
        run(hub, writer)
    assert renames() == [("lab/one", "lab/two"), ("org/m1", "lab/two")]
    # A name that another model has now is that model's.
    hub.pass_time(days=1)
    hub.create("org/m1")
    run(hub, writer)
    assert renames() == [("lab/one", "lab/two")]
    hub.rename("lab/two", "lab/one")
    run(hub, writer)
    assert renames() == [("lab/two", "lab/one")]


def test_what_cannot_be_read_is_not_asked_for_again_until_it_changes(writer: GraphWriter) -> None:
    hub = filled(2)

    def wanted(reason: str | None = None) -> list[str]:
        writer._begin_run()
        frontier = crawl.frontier.Frontier(hub, writer, SOURCE, complete=True, lost=(), progress=SilentProgress())
        frontier.refresh()
        refs = list(frontier.queue())
        frontier.conclude([(ref, reason) for ref in refs if reason])
        return [ref.name for ref in refs]

    assert wanted("truncated") == ["org/m1", "org/m0"]
    assert wanted() == []
    hub.pass_time(days=100)
    assert wanted() == []
    hub.push("org/m0")
    assert wanted("gated") == ["org/m0"]
    assert state(writer, "org/m0")[0] == "gated"
    assert wanted() == []
    hub.pass_time(days=1)
    assert wanted("gated") == ["org/m0"]
    hub.pass_time(days=1)
    assert wanted() == []
    hub.pass_time(days=1)
    assert wanted("gated") == ["org/m0"]
    writer.version = "another"
    assert wanted() == ["org/m1", "org/m0"]
