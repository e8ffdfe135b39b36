"""The graph as it was: which run is meant by a number or a date, and what has to be noted at each run for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from store.errors import StopError

__all__ = ["AsOf", "Ran", "note_placements", "runs_of", "settle_run"]

AsOf = int | str | date
"""A run, or a moment (UTC where no zone is given), or a day, which is meant to its end; as text in ISO 8601."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A row of table `runs`, as far as it says when. Times are UTC without a zone."""

    run_id: int
    status: str
    finished_at: datetime | None


def runs_of(connection: duckdb.DuckDBPyConnection) -> list[Ran]:
    """All runs, oldest first."""
    rows = connection.execute("select run_id, status, finished_at from runs order by run_id").fetchall()
    return [Ran(*row) for row in rows]


def settle_run(runs: Sequence[Ran], asked: AsOf, now: datetime) -> int:
    """The run that is meant: that number, or the last one that had finished by then. `runs` is oldest first.

    Raises StopError for a run that is not there or did not finish, a moment that is yet to come or lies before the
    first run, and text that is neither.
    """
    asked = _parsed(asked) if isinstance(asked, str) else asked
    if isinstance(asked, date):
        return _last_by(runs, asked, now)
    found = next((run for run in runs if run.run_id == asked), None)
    if found is None:
        last = runs[-1].run_id if runs else 0
        said = f"its runs are 1 to {last}" if last else "it has none yet"
        raise StopError(
            f"no run {asked} in this graph: {said}, `modelkin runs` lists them; a date is written as 2024-05-28"
        )
    if found.status != "done":
        following = next((run.run_id for run in runs if run.run_id > found.run_id and run.status == "done"), None)
        onward = f"; run {following} went on from what it had" if following else ""
        raise StopError(f"run {asked} did not finish ({found.status}), so nobody was ever answered from it{onward}")
    return found.run_id


def _parsed(text: str) -> int | date:
    if text.isdecimal():
        return int(text)
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    raise StopError(
        f"{text!r} is neither a run nor a date: write a number that `modelkin runs` lists, or a date in ISO 8601 such "
        "as 2024-05-28 or 2024-05-28T14:30 (UTC)"
    )


def _last_by(runs: Sequence[Ran], asked: date, now: datetime) -> int:
    if isinstance(asked, datetime):
        start = asked if asked.tzinfo else asked.replace(tzinfo=UTC)
        end, said = start, f"{start.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    else:
        start = datetime(asked.year, asked.month, asked.day, tzinfo=UTC)
        end, said = _day_after(start), f"the end of {asked} (UTC)"
    if start > now:
        raise StopError(f"{asked} is yet to come: now it is {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    finished = [
        (run.run_id, run.finished_at.replace(tzinfo=UTC)) for run in runs if run.status == "done" and run.finished_at
    ]
    if not finished:
        raise StopError("no run of this graph has finished yet")
    by_then = [run_id for run_id, when in finished if when <= end]
    if not by_then:
        first, when = finished[0]
        raise StopError(f"no run had finished by {said}: run {first}, the first, did at {when:%Y-%m-%d %H:%M:%S} UTC")
    return by_then[-1]


def _day_after(start: datetime) -> datetime:
    """The last moment of the day that begins then."""
    try:
        return start + timedelta(days=1) - timedelta(microseconds=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def note_placements(connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Make the current rows of `placements` those of `components`; called when a run publishes."""
    differing = connection.execute(
        """with p as (from placements where valid_to_run is null)
           select coalesce(c.model_id, p.model_id) as model_id from p full join components c on p.model_id = c.model_id
           where p.model_id is null or c.model_id is null or c.stage is distinct from p.stage"""
    ).fetchnumpy()
    if not len(differing["model_id"]):
        return
    connection.register("differing", pa.table(differing))
    connection.execute(
        """update placements set valid_to_run = ?
           where valid_to_run is null and model_id in (from differing) and not exists (
               from components c
               where c.model_id = placements.model_id and c.stage is not distinct from placements.stage
           )""",
        [run_id],
    )
    connection.execute(
        """insert into placements select model_id, stage, ?, null from components c semi join differing using (model_id)
           where not exists (from placements p where p.model_id = c.model_id and p.valid_to_run is null)""",
        [run_id],
    )
    connection.unregister("differing")
