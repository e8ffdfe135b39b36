"""The nightly run on a schedule that outlives the process: APScheduler, with its jobs in GRAPH/schedule.sqlite."""

from __future__ import annotations

import os
import queue
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from modelkin.cron import cron_trigger
from modelkin.failures import expected_errors, message_of
from modelkin.nightly import Mode, RunReport, run
from modelkin.progress import progress_for
from modelkin.sources import SourceChoice
from store.errors import StopError
from store.generation import GraphFolder
from store.progress import Progress

__all__ = ["Job", "nightly_job", "serve"]

_TABLE: Final = "apscheduler_jobs"
_STOPPING: Final = threading.Event()
"""Set when the process was asked to stop. Of the module, since a stored job can carry plain values only."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: plain values only, since they are stored."""

    graph: str
    choice: SourceChoice
    mode: Mode
    budget: int
    use_metadata: bool | None = None
    infer: bool = True


def serve(
    job: Job,
    cron: str,
    *,
    now: bool,
    tell: Callable[[str], None],
    report: Callable[[RunReport], None],
) -> None:
    """Run `job` whenever `cron` says so, until SIGTERM or SIGINT; call from the main thread.

    A run that was due while no process served, or that was cut off, is caught up once, at once. `now` adds a
    run at the start. `tell` gets lines for people, `report` the report of each run. A run that fails is told
    and the next one comes all the same. Raises StopError when the cron line or the stored schedule is
    unusable.
    """
    from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_SCHEDULER_STARTED
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.blocking import BlockingScheduler
    from sqlalchemy.exc import SQLAlchemyError

    moment = datetime.now(UTC)
    trigger = cron_trigger(cron, moment)
    store = Path(job.graph) / "schedule.sqlite"
    store.parent.mkdir(parents=True, exist_ok=True)
    job_id = f"nightly {cron}"
    due = _due(store, job_id)
    if due is not None and due <= moment:
        tell(f"a run was due {_when(due)} and nothing ran: catching up")
    elif GraphFolder(job.graph).building.exists():
        tell("the last run did not come to its end: going on with it")
        due = moment
    first = moment if now else due

    started = threading.Event()

    def on_start(event: Any) -> None:
        started.set()
        tell(f"next run {_when(first or trigger.get_next_fire_time(None, moment))}; stop with Ctrl-C or SIGTERM")

    def on_done(event: Any) -> None:
        # Asking the scheduler for its next run would wait for a lock that shutdown holds while it waits for us.
        if event.exception is not None:
            tell(f"error: the run failed with a bug: {event.exception!r}")
        elif isinstance(event.retval, RunReport):
            report(event.retval)
        else:
            tell(f"error: {event.retval}")
        if not _STOPPING.is_set():
            later = datetime.now(UTC)
            tell(f"next run {_when(trigger.get_next_fire_time(later, later))}")

    scheduler = BlockingScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{store}")},
        executors={"default": ThreadPoolExecutor(1)},
    )
    scheduler.add_listener(on_start, EVENT_SCHEDULER_STARTED)
    scheduler.add_listener(on_done, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.add_job(
        nightly_job,
        trigger,
        id=job_id,
        kwargs={**asdict(job), "choice": asdict(job.choice)},
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
        replace_existing=True,
        **({"next_run_time": first} if first is not None else {}),
    )

    def stop() -> None:
        started.wait()
        if scheduler.running:
            scheduler.shutdown()

    _STOPPING.clear()
    with _Signals(stop, tell):
        try:
            scheduler.start()
        except SQLAlchemyError as error:
            raise StopError(f"{store}: the schedule cannot be kept there ({error})") from error
        finally:
            started.set()


def nightly_job(
    *, graph: str, choice: dict[str, Any], mode: Mode, budget: int, use_metadata: bool | None, infer: bool = True
) -> RunReport | str:
    """One nightly run; what the scheduler stores is this function's name and these arguments.

    A failure of the world is returned as a message: raised, the scheduler would print its traceback.
    """
    progress = _StoppableProgress(progress_for(sys.stderr))
    try:
        source, complete = SourceChoice(**choice).open()
        return run(
            graph,
            source,
            command="nightly",
            mode=mode,
            infer=infer,
            budget=budget,
            complete=complete,
            progress=progress,
            clock=lambda: datetime.now(UTC),
            use_metadata=use_metadata,
        )
    except expected_errors() as error:
        return message_of(error)
    finally:
        progress.close()


def _due(store: Path, job_id: str) -> datetime | None:
    """When the stored job of this name runs next; jobs of any other name are forgotten.

    Read by hand, and not by APScheduler, for two reasons. Adding a job anew would forget that its time has passed.
    And APScheduler unpickles what it finds: a graph that came from elsewhere must not bring code along.
    """
    if not store.exists():
        return None
    try:
        with closing(sqlite3.connect(store)) as connection, connection:
            kinds = connection.execute("select type, name from sqlite_master").fetchall()
            if any(kind not in ("table", "index") for kind, _ in kinds):
                raise StopError(f"{store}: holds what modelkin did not put there; delete it, the schedule is made anew")
            if ("table", _TABLE) not in kinds:
                return None
            connection.execute(f"delete from {_TABLE} where id <> ?", [job_id])
            row = connection.execute(f"select next_run_time from {_TABLE} where id = ?", [job_id]).fetchone()
            return datetime.fromtimestamp(float(row[0]), UTC) if row and row[0] is not None else None
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise StopError(f"{store}: unusable ({error}); delete it, the schedule is made anew") from error


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


class _StoppableProgress:
    """Raises from the next step on once the process was asked to stop: the run ends as after a kill, resumable."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def start(self, label: str, total: int | None) -> None:
        self._check()
        self._shown.start(label, total)

    def advance(self, n: int = 1, note: str = "") -> None:
        self._check()
        self._shown.advance(n, note)

    def finish(self) -> None:
        self._check()
        self._shown.finish()

    def note(self, text: str) -> None:
        self._check()
        self._shown.note(text)

    def close(self) -> None:
        self._shown.finish()

    def _check(self) -> None:
        if _STOPPING.is_set():
            raise StopError("stopped within a run; the next one goes on from there")


class _Signals:
    """While entered, the first SIGTERM or SIGINT calls `stop` on another thread, the second one ends the process.

    On another thread, since the handler interrupts the scheduler wherever it is, locks in hand. A SimpleQueue is
    what may be written to from a handler.
    """

    def __init__(self, stop: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._stop = stop
        self._tell = tell
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._wait, name="modelkin-stop")
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._asked.put(False)
        self._thread.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if _STOPPING.is_set():
            os._exit(128 + number)
        _STOPPING.set()
        self._asked.put(True)

    def _wait(self) -> None:
        if self._asked.get():
            self._tell("stopping; a run in progress ends at its next step (again to end at once)")
            self._stop()
