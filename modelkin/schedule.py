"""The nightly run on a schedule that outlives the process: APScheduler, with its jobs in GRAPH/schedule.sqlite."""

from __future__ import annotations

import os
import queue
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from modelkin.cron import cron_trigger
from modelkin.failures import expected_errors, message_of
from modelkin.nightly import Mode, RunReport, run
from modelkin.progress import progress_for
from modelkin.sources import SourceChoice
from modelkin.stopping import StoppableProgress, StoppedError, Stopping
from store.errors import StopError
from store.generation import GraphFolder

if TYPE_CHECKING:
    from modelkin.metrics import Metrics

__all__ = ["Job", "nightly_job", "serve"]

_TABLE: Final = "apscheduler_jobs"
_STOPPING: Final = Stopping()
_METRICS: Final[list[Metrics]] = []
"""One, if they are asked for. Both are the module's own, since a stored job can carry plain values only."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: plain values only, since they are stored."""

    graph: str
    choice: SourceChoice
    mode: Mode
    budget: int
    use_metadata: bool | None = None
    infer: bool = True
    processes: int = 1


def serve(
    job: Job,
    cron: str,
    *,
    now: bool,
    tell: Callable[[str], None],
    report: Callable[[RunReport], None],
    metrics: Metrics | None = None,
) -> None:
    """Run `job` whenever `cron` says so, until SIGTERM or SIGINT; call from the main thread.

    A run that was due while no process served, or that was cut off, is caught up once, at once. `now` adds a
    run at the start. `tell` gets lines for people, `report` the report of each run, `metrics` both. A run that fails
    is told and the next one comes all the same; while one goes on no other starts. Raises StopError when the cron
    line or the stored schedule is unusable.
    """
    from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_SCHEDULER_STARTED
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.blocking import BlockingScheduler
    from sqlalchemy.engine import URL
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

    def tell_next(upcoming: datetime, how_to_stop: str = "") -> None:
        tell(f"next run {_when(upcoming)}{how_to_stop}")
        if metrics is not None:
            metrics.due(upcoming.timestamp())

    def on_start(event: Any) -> None:
        started.set()
        tell_next(first or trigger.get_next_fire_time(None, moment), "; stop with Ctrl-C or SIGTERM")

    def on_overlap(event: Any) -> None:
        tell("a run is due and the last one still goes on: it is left out")

    def on_done(event: Any) -> None:
        # Asking the scheduler for its next run would wait for a lock that shutdown holds while it waits for us.
        done = event.retval if isinstance(event.retval, RunReport) else None
        if event.exception is not None:
            tell(f"error: the run failed with a bug: {event.exception!r}")
        elif done is not None:
            report(done)
        else:
            tell(f"error: {event.retval}")
        if metrics is not None:
            stopped = event.retval == str(StoppedError())
            metrics.ended("done" if done else "stopped" if stopped else "failed", done)
        if not _STOPPING.asked.is_set():
            later = datetime.now(UTC)
            tell_next(trigger.get_next_fire_time(later, later))

    scheduler = BlockingScheduler(
        # Not as text: "?" in a path would begin a query.
        jobstores={"default": SQLAlchemyJobStore(url=URL.create("sqlite", database=str(store)))},
        executors={"default": ThreadPoolExecutor(1)},
    )
    scheduler.add_listener(on_start, EVENT_SCHEDULER_STARTED)
    scheduler.add_listener(on_overlap, EVENT_JOB_MAX_INSTANCES)
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

    _STOPPING.asked.clear()
    _METRICS[:] = [metrics] if metrics is not None else []
    with _Signals(stop, tell):
        try:
            scheduler.start()
        except SQLAlchemyError as error:
            raise StopError(f"{store}: the schedule cannot be kept there ({error})") from error
        finally:
            started.set()


def nightly_job(
    *,
    graph: str,
    choice: dict[str, Any],
    mode: Mode,
    budget: int,
    use_metadata: bool | None,
    infer: bool = True,
    processes: int = 1,
) -> RunReport | str:
    """One nightly run; what the scheduler stores is this function's name and these arguments.

    A failure of the world is returned as a message: raised, the scheduler would print its traceback.
    """
    progress = StoppableProgress(progress_for(sys.stderr), _STOPPING)
    try:
        source, complete = SourceChoice(**choice).open(_STOPPING.sleep)
        with _METRICS[0].running(source) if _METRICS else nullcontext():
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
                processes=processes,
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
        if _STOPPING.asked.is_set():
            os._exit(128 + number)
        _STOPPING.asked.set()
        self._asked.put(True)

    def _wait(self) -> None:
        if self._asked.get():
            self._tell("stopping; a run in progress ends after its current model (again to end at once)")
            self._stop()
