"""Runs in processes of their own, which may die anywhere: killed by SIGKILL at a chosen point or moment, or refused
space by the system. `python -m tests.killable` is the process that they are forked from: it has imported everything."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

import crawl.ingest
from crawl.folder import FolderSource
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef
from indexer.distance import measure_pairs, normalised
from indexer.from_sketches import make_family
from modelkin.nightly import run
from store.errors import StopError
from store.generation import GraphFolder
from store.progress import SilentProgress
from store.writer import GraphWriter
from tests.large_trees import lower_limits
from tests.runs import index

__all__ = ["KILLED", "STOPPED", "Killable", "Outcome"]

KILLED = -signal.SIGKILL
STOPPED = 3
"""Exit status of a run that ended in a StopError."""
_MODELS_A_BATCH = 4
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Job:
    """One run; at most one of `point`, `seconds` and `limit`."""

    source: str
    graph: str
    point: int = 0
    """Die at this point, counted from 1."""
    seconds: float = 0.0
    """Die after this time."""
    limit: int = 0
    """Bytes that a file may grow to."""
    command: str = "index"
    """index, crawl or update."""
    phases: bool = False
    """Say what the run is at, a line a phase, instead of how many points it passed."""
    swap: bool = False
    """Count `seconds` from the start of the swap; with `phases`."""


class Outcome(NamedTuple):
    """Exit status (negative: the signal), and what the run said: its StopError, or how many points it passed."""

    status: int
    said: str


class Killable:
    """The process that runs are forked from: `with Killable() as killable: killable.run(source, graph)`."""

    def __init__(self, *, large: bool = False) -> None:
        """With `large`, small trees are solved as large ones are."""
        self._large = large

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", __spec__.name, *(["large"] if self._large else [])]
        self._server = subprocess.Popen(words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()

    def run(
        self,
        source: Path,
        graph: Path,
        *,
        point: int = 0,
        seconds: float = 0.0,
        limit: int = 0,
        command: str = "index",
        phases: bool = False,
        swap: bool = False,
    ) -> Outcome:
        """Index in a process of its own, and wait for its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        job = Job(str(source), str(graph), point, seconds, limit, command, phases, swap)
        self._server.stdin.write(json.dumps(asdict(job)) + "\n")
        self._server.stdin.flush()
        return Outcome(*json.loads(self._server.stdout.readline()))


class _Points(SilentProgress):
    """Counts what a run does to files, transactions and progress, and dies at the chosen one."""

    def __init__(self, fatal: int) -> None:
        self.passed = 0
        self._fatal = fatal
        for name in ("fsync", "replace", "unlink", "mkdir"):
            setattr(os, name, self._before(getattr(os, name)))
        transaction = GraphWriter.transaction

        @contextmanager
        def counted(writer: GraphWriter) -> Iterator[None]:
            self._pass()
            with transaction(writer):
                yield
                self._pass()
            self._pass()

        GraphWriter.transaction = counted  # type: ignore[method-assign,assignment]

    def advance(self, n: int = 1, note: str = "") -> None:
        self._pass()

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self._pass()
            return call(*arguments, **named)

        return counted

    def _pass(self) -> None:
        self.passed += 1
        if self.passed == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class _Phases(SilentProgress):
    """Says what the run is at as soon as it is, for it may not live to say it later."""

    def __init__(self, job: Job, output: int) -> None:
        self._output = output
        publish = GraphFolder.publish

        def told(folder: GraphFolder, connection: Any) -> int:
            self.start("swap", None)
            if job.swap:
                _die_in(job.seconds)
            return publish(folder, connection)

        GraphFolder.publish = told  # type: ignore[method-assign,assignment]

    def start(self, label: str, total: int | None) -> None:
        os.write(self._output, f"{label}\n".encode())


def _die_in(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def _work(job: Job, output: int) -> Outcome:
    crawl.ingest.BATCH_MODELS = _MODELS_A_BATCH  # type: ignore[misc]
    if job.seconds and not job.swap:
        _die_in(job.seconds)
    if job.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.limit, job.limit))
    if job.phases:
        return _command(job, _Phases(job, output))
    points = _Points(job.point)
    try:
        index(Path(job.source), Path(job.graph), points, workers=1)
    except StopError as error:
        return Outcome(STOPPED, str(error))
    return Outcome(0, str(points.passed))


def _command(job: Job, progress: SilentProgress) -> Outcome:
    """The run as the command line does it."""
    run(
        job.graph,
        None if job.command == "update" else FolderSource(job.source),
        command=job.command,
        mode=None if job.command == "crawl" else "default",
        budget=0,
        complete=True,
        progress=progress,
        clock=lambda: datetime.now(UTC),
        processes=2,
    )
    return Outcome(0, "")


def _warm(source: Path) -> None:
    """Load compiled kernels once for all children. Nothing here starts a thread, which a fork would lose."""
    found = [ref for ref in FolderSource(source).models() if isinstance(ref, ModelRef)][:2]
    models = [sketch_model(FolderSource(source), ref, budget=0) for ref in found]
    rows = [(at, m.model.name, m.model.content_hash, np.nan, m.model.sketches) for at, m in enumerate(models)]
    family = make_family("", rows, {name: role for name, _, _, role in models[0].backbone})
    measure_pairs(family, normalised(family), np.zeros(1), np.ones(1))
    # Arrow looks for pandas when it is given its first list.
    pa.array([1])


def _serve() -> None:
    warm = False
    for line in sys.stdin:
        job = Job(**json.loads(line))
        if not warm:
            _warm(Path(job.source))
            warm = True
        output, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                outcome = _work(job, writing)
                os.write(writing, outcome.said.encode())
                os._exit(outcome.status)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(output) as said:
            text = said.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), text]), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["large"]:
        lower_limits()
    _serve()
