"""A whole crawl of a Hub: through bad weather it gives the same graph, and what repositories become is a state."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from crawl.hub import HubSource
from scripts.hub_server import HubServer
from scripts.hub_weather import FILES, Weather
from store.errors import RetryError
from store.generation import open_reader
from tests.hub_models import make_models
from tests.runs import answers, index, skipped
from tests.weights import family, root, save, tuned

pytestmark = pytest.mark.usefixtures("own_session")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two families and a model of several ranges. Children have other weights beside, so their files are asked for."""
    folder = make_models(tmp_path_factory.mktemp("served"))
    family(folder, "good", 1, children=3)
    family(folder, "fine", 2, children=2)
    for child in folder.glob("*/child-*"):
        (child / "pytorch_model.bin").touch()
    return folder


@pytest.fixture(scope="module")
def fair(served: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    graph = tmp_path_factory.mktemp("fair")
    with HubServer(served) as hub:
        index(patient(hub.url), graph)
    return answers(graph)


def patient(url: str, **options: Any) -> HubSource:
    """A source whose clock moves when it sleeps, and only then."""
    slept: list[float] = []
    return HubSource(url, "hf_test", sleep=slept.append, clock=lambda: sum(slept), **options)


def table(graph: Path, query: str) -> list[tuple[Any, ...]]:
    with open_reader(graph) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_weather_changes_nothing_in_the_graph(served: Path, fair: dict[str, Any], seed: int, tmp_path: Path) -> None:
    weather = Weather(seed, rate=0.5)
    with HubServer(served, page_size=2, weather=weather) as hub:
        source = patient(hub.url, timeout_s=0.2)
        report = index(source, tmp_path)
    assert len(fair) == 8
    assert answers(tmp_path) == fair
    assert (report.skipped, skipped(tmp_path)) == (1, table_rows_of_beta(tmp_path))
    assert source.retries > 5
    assert len(weather.met) > 4
    assert set(weather.met) <= {*FILES, "fair"}


def table_rows_of_beta(graph: Path) -> list[dict[str, Any]]:
    """What is always skipped: a model of constant weights."""
    rows = skipped(graph)
    assert [(row["name"], row["reason"]) for row in rows] == [("bob/beta", "constant_weights")]
    return rows


def test_an_unchanged_hub_costs_its_list_and_nothing_else(served: Path, tmp_path: Path) -> None:
    with HubServer(served) as hub:
        index(patient(hub.url), tmp_path)
        hub.reset()
        report = index(patient(hub.url), tmp_path)
        # What could not be read is not asked for again either.
        assert hub.stats()["requests"] == 1
    assert (report.seen, report.unchanged, report.new, report.skipped, report.requests) == (9, 8, 0, 0, 1)


def test_a_504_deep_in_the_list_loses_nothing(served: Path, fair: dict[str, Any], tmp_path: Path) -> None:
    asked: list[str] = []

    def deep(request: Request) -> Response | None:
        if request.url.path != "/api/models" or "cursor" not in request.query_params:
            return None
        asked.append(request.query_params["cursor"])
        return Response(status_code=504) if len(set(asked)) == 6 else None

    with HubServer(served, page_size=1, faults=deep) as hub:
        first = index(patient(hub.url), tmp_path)
        assert (first.seen, first.removed) == (6, 0)
        assert table(tmp_path, "select count(*) from listings") == [(0,)]
        hub.counted.faults = None
        second = index(patient(hub.url), tmp_path)
    assert (second.seen, second.new + first.new) == (9, 8)
    assert answers(tmp_path) == fair


def test_a_hub_that_stops_answering_is_left_and_gone_on_with(
    served: Path, fair: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawl.ingest.MOST_UNAVAILABLE", 2)
    with HubServer(served, faults=lambda request: refused(request, "/resolve/")) as hub:
        first = index(patient(hub.url), tmp_path, workers=1)
        assert first.new == 0
        assert {row["reason"] for row in skipped(tmp_path)} == {"unavailable"}
        assert len(skipped(tmp_path)) == 2
        hub.counted.faults = None
        index(patient(hub.url), tmp_path)
    assert answers(tmp_path) == fair


def refused(request: Request, part: str) -> Response | None:
    return Response(status_code=503) if part in request.url.path else None


def test_what_repositories_become_is_a_state(tmp_path: Path) -> None:
    served, graph = tmp_path / "served", tmp_path / "graph"
    parent = root(1)
    for at in range(6):
        save(served / f"org/m{at}", tuned(parent, at + 2))
    with HubServer(served) as hub:
        index(patient(hub.url), graph)
        ids = dict(table(graph, "select name, model_id from live_models"))
        hub.hub.rename("org/m0", "lab/moved")
        hub.hub.withheld |= {"org/m1": "private", "org/m2": "gated", "org/m3": "disabled"}
        shutil.rmtree(served / "org/m4")
        save(served / "org/m2", tuned(parent, 20))
        hub.reset()
        report = index(patient(hub.url), graph)
        states = dict(table(graph, "select name, state from repositories"))
        assert states == {
            "org/m0": "renamed",
            "lab/moved": "live",
            "org/m1": "private",
            "org/m2": "gated",
            "org/m3": "disabled",
            "org/m4": "deleted",
            "org/m5": "live",
        }
        assert (report.removed, report.new, report.skipped) == (2, 0, 1)
        live = dict(table(graph, "select name, model_id from live_models"))
        assert live == {"lab/moved": ids["org/m0"], **{f"org/m{at}": ids[f"org/m{at}"] for at in (2, 3, 5)}}
        # One page, four that are not in it, and a redirect; the gated one's files and weights.
        assert hub.stats()["requests"] <= 8

        hub.hub.withheld.clear()
        save(served / "org/m4", parent)
        index(patient(hub.url), graph)
        assert table(graph, "select name from repositories where state not in ('live', 'gated', 'renamed')") == []
        assert len(answers(graph)) == 6
    fresh = tmp_path / "fresh"
    with HubServer(served) as hub:
        index(patient(hub.url), fresh)
    # The one that was gated is looked at again tomorrow.
    assert answers(fresh).keys() == answers(graph).keys()


def test_a_renamed_model_is_placed_as_in_a_rebuild(tmp_path: Path) -> None:
    served = tmp_path / "served"
    parent = root(1)
    for name in ("a/one", "b/two", "c/three"):
        # Uploaded at the same time: nothing but names tells them apart.
        os.utime(save(served / name, parent), (1.7e9, 1.7e9))
    with HubServer(served) as hub:
        index(patient(hub.url), tmp_path / "graph")
        # Of copies the first name is taken for the original.
        hub.hub.rename("a/one", "z/last")
        index(patient(hub.url), tmp_path / "graph")
        index(patient(hub.url), tmp_path / "fresh")
    assert answers(tmp_path / "graph") == answers(tmp_path / "fresh")
    assert answers(tmp_path / "graph")["z/last"].parent == "b/two"


def test_a_wait_that_is_too_long_is_not_waited(served: Path) -> None:
    ask: Callable[[Request], Response | None] = lambda request: (  # noqa: E731
        Response(status_code=429, headers={"Retry-After": "7200"}) if "ada" in request.url.path else None
    )
    with HubServer(served, faults=ask) as hub:
        source = patient(hub.url)
        with pytest.raises(RetryError):
            source.ask("ada/alpha")
        with pytest.raises(RetryError, match="7200 s without requests"):
            source.ask("good/root")
        assert hub.stats()["requests"] == 1
