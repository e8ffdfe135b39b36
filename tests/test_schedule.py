"""Cron lines, and the scheduler as a process: it outlives itself, catches up, fails without ending, stops cleanly."""

from __future__ import annotations

import pickle
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelkin import ModelGraph
from modelkin.cron import BadCronError, cron_trigger
from modelkin.schedule import _due
from store.errors import StopError
from tests.served import CRON, serving
from tests.small_graph import build, write_weights, writer

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # a Monday
pytestmark = pytest.mark.timeout(60)  # a line that never comes


def fires(cron: str, times: int = 1) -> list[str]:
    trigger = cron_trigger(cron, NOW)
    found: list[datetime] = []
    for _ in range(times):
        before = found[-1] if found else None
        found.append(trigger.get_next_fire_time(before, before or NOW))
    return [f"{moment.astimezone():%a %m-%d %H:%M}" for moment in found]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * *", ["Tue 03-03 02:00", "Wed 03-04 02:00"]),
        ("45 12 * * *", ["Mon 03-02 12:45", "Tue 03-03 12:45"]),
        # Sunday is 0 and 7, as cron has it; APScheduler alone would take 0 for Monday.
        ("0 2 * * 0", ["Sun 03-08 02:00", "Sun 03-15 02:00"]),
        ("0 2 * * 7", ["Sun 03-08 02:00", "Sun 03-15 02:00"]),
        ("0 2 * * 1", ["Mon 03-09 02:00", "Mon 03-16 02:00"]),
        ("0 2 * * sun", ["Sun 03-08 02:00", "Sun 03-15 02:00"]),
        ("0 2 * * 5-7", ["Fri 03-06 02:00", "Sat 03-07 02:00", "Sun 03-08 02:00", "Fri 03-13 02:00"]),
        ("0 2 * * fri-sun", ["Fri 03-06 02:00", "Sat 03-07 02:00", "Sun 03-08 02:00", "Fri 03-13 02:00"]),
        ("0 2 * * 0-1", ["Sun 03-08 02:00", "Mon 03-09 02:00", "Sun 03-15 02:00"]),
        ("0 2 * * */3", ["Wed 03-04 02:00", "Sat 03-07 02:00", "Sun 03-08 02:00"]),
        ("0 2 * * 2/2", ["Tue 03-03 02:00", "Thu 03-05 02:00", "Sat 03-07 02:00", "Tue 03-10 02:00"]),
        ("0 2 * * mon,4", ["Thu 03-05 02:00", "Mon 03-09 02:00"]),
        # Day and weekday: either.
        ("0 2 4 * 5", ["Wed 03-04 02:00", "Fri 03-06 02:00", "Fri 03-13 02:00"]),
        ("*/20 2-3 * * *", ["Tue 03-03 02:00", "Tue 03-03 02:20", "Tue 03-03 02:40", "Tue 03-03 03:00"]),
    ],
)
def test_cron_lines_mean_what_cron_means(cron: str, expected: list[str]) -> None:
    assert fires(cron, len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("", "expected 5 fields"),
        ("0 2 * * * *", "found 6"),
        ("60 2 * * *", "60"),
        ("0 2 * * 8", "expected a weekday"),
        ("0 2 * * funday", "expected a weekday"),
        ("0 2 * * 5-2", "goes forward"),
        ("0 2 * * */0", "goes forward"),
        ("x 2 * * *", "x"),
        ("0 2 31 2 *", "never comes true"),
    ],
)
def test_bad_cron_lines_are_told(cron: str, says: str) -> None:
    with pytest.raises(BadCronError, match=says):
        cron_trigger(cron, NOW)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_weights(folder / "org/child", 2, parent=write_weights(folder / "org/base", 1))
    return folder


def stored(graph: Path) -> dict[str, float]:
    """Job -> when it runs next, seconds since 1970."""
    with closing(sqlite3.connect(graph / "schedule.sqlite")) as connection:
        return dict(connection.execute("select id, next_run_time from apscheduler_jobs").fetchall())


def change(graph: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(graph / "schedule.sqlite")) as connection, connection:
        connection.execute(statement, values)


def plant(graph: Path, **jobs: float) -> bytes:
    """Leave a store as another process would, with job states that touch `graph/trace` when they are unpickled."""
    graph.mkdir(exist_ok=True)
    state = pickle.dumps(Evil(graph / "trace"))
    change(graph, "create table apscheduler_jobs (id varchar(191) primary key, next_run_time float, job_state blob)")
    for name, moment in jobs.items():
        change(graph, "insert into apscheduler_jobs values (?, ?, ?)", name, moment, state)
    return state


class Evil:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def commands(graph: Path) -> list[str]:
    with ModelGraph.open(graph) as opened:
        return [row.command for row in opened.runs()]


def test_a_schedule_outlives_its_process_and_catches_up_once(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models) as served:
        served.wait_for("next run")
        served.stop()
    assert "catching up" not in served.said
    (due,) = stored(tmp_path).values()
    assert due > time.time()
    assert not (tmp_path / "CURRENT").exists()

    # Three nights pass while nothing serves.
    change(tmp_path, "update apscheduler_jobs set next_run_time = ?", due - 4 * 86_400)
    with serving(tmp_path, models, real=True) as served:
        served.wait_for("generation 1")
        served.wait_for("next run")
        served.stop()
    assert "a run was due" in served.said
    assert "2 new" in served.said
    assert commands(tmp_path) == ["nightly"]
    assert stored(tmp_path) == {f"nightly {CRON}": due}


def test_a_schedule_is_kept_in_its_graph_whatever_that_is_called(models: Path, tmp_path: Path) -> None:
    graph = tmp_path / "a?b#c%20d"
    with serving(graph, models) as served:
        served.wait_for("next run")
        served.stop()
    assert list(stored(graph)) == [f"nightly {CRON}"]


def test_a_run_comes_when_it_is_due(models: Path, tmp_path: Path) -> None:
    plant(tmp_path, **{f"nightly {CRON}": time.time() + 8})
    with serving(tmp_path, models, "--json") as served:
        served.wait_for("next run")
        served.wait_for('"command": "nightly"')
        served.stop()
    assert "catching up" not in served.said


def test_a_failed_run_ends_nothing(models: Path, tmp_path: Path) -> None:
    build(tmp_path, {"a": None})
    with writer(tmp_path), serving(tmp_path, models, "--now") as served:
        served.wait_for("is writing to this graph")
        served.wait_for("next run")
        served.stop()
    assert "error: " in served.said


def test_a_bug_ends_nothing_either(models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, models, "--now", ingest="1 / 0") as served:
        served.wait_for("the run failed with a bug: ZeroDivisionError")
        served.wait_for("next run")
        served.process.terminate()
        assert served.process.wait(20) == 0


def test_a_run_that_was_cut_off_is_finished_at_the_start(models: Path, tmp_path: Path) -> None:
    with writer(tmp_path, f"folder:{models}"):
        pass
    with serving(tmp_path, models) as served:
        served.wait_for("going on with it")
        served.wait_for("going on from the interrupted run 1")
        served.wait_for("generation 1")
        served.stop()
    assert commands(tmp_path) == ["index", "nightly"]


def test_a_schedule_from_elsewhere_brings_no_code(models: Path, tmp_path: Path) -> None:
    state = plant(tmp_path, **{f"nightly {CRON}": 1, "other": 1})
    with serving(tmp_path, models) as served:
        served.wait_for("generation 1")
        served.stop()
    assert not (tmp_path / "trace").exists()
    assert list(stored(tmp_path)) == [f"nightly {CRON}"]
    pickle.loads(state)
    assert (tmp_path / "trace").exists()


def test_another_cron_line_replaces_the_first(models: Path, tmp_path: Path) -> None:
    plant(tmp_path, **{f"nightly {CRON}": 1})
    with serving(tmp_path, models, cron="30 3 * * 1") as served:
        served.wait_for("next run")
        served.stop()
    assert "catching up" not in served.said
    assert list(stored(tmp_path)) == ["nightly 30 3 * * 1"]


def test_stored_schedules_that_cannot_be_used(tmp_path: Path) -> None:
    store = tmp_path / "schedule.sqlite"
    assert _due(store, "nightly") is None
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("create table apscheduler_jobs (id, next_run_time, job_state)")
    assert _due(store, "nightly") is None
    change(tmp_path, "insert into apscheduler_jobs values ('nightly', null, x'00')")
    assert _due(store, "nightly") is None
    change(tmp_path, "update apscheduler_jobs set next_run_time = 5")
    assert _due(store, "nightly") == datetime.fromtimestamp(5, UTC)
    change(tmp_path, "update apscheduler_jobs set next_run_time = 'soon'")
    with pytest.raises(StopError, match="delete it"):
        _due(store, "nightly")
    change(tmp_path, "create trigger t after update on apscheduler_jobs begin select 1; end")
    with pytest.raises(StopError, match="did not put there"):
        _due(store, "nightly")
    store.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StopError, match="delete it"):
        _due(store, "nightly")
