"""Components solved in other processes: the same graph, and nothing that is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.metadata import Metadata
from indexer.solve import split
from indexer.workers import Task, Workers, solve_all
from store.errors import StopError
from store.progress import SilentProgress
from tests.grown import family_of, grow, start


def tasks(trees: int = 6) -> list[Task]:
    models = {}
    for tree in range(trees):
        root = start(100 + tree, layers=3, width=24)
        models[f"t{tree}-root"] = root
        models |= {f"t{tree}-m{i}": grow(root, 10 * tree + i, 0.05 + 0.01 * i) for i in range(2 + tree)}
    family = family_of(models)
    parts = split(family)
    assert len(parts) == trees
    told = Metadata(("s",) * len(family), ((),) * len(family))
    return [Task(family, part, told.take(part) if at % 2 else None, True, {}) for at, part in enumerate(parts)]


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tasks()
    alone = solve_all(given, Workers(1), SilentProgress())
    monkeypatch.setattr("indexer.workers.LEAST", 1)
    with Workers(2) as workers:
        together = solve_all(given, workers, SilentProgress())
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert (one.edges, one.pairs, one.merges, one.stages, dict(one.memory)) == (
            other.edges, other.pairs, other.merges, other.stages, dict(other.memory),
        )  # fmt: skip


def test_processes_that_wait_make_room_for_a_large_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.workers.LEAST", 1)
    monkeypatch.setattr("indexer.workers._CROWDED", 3)
    given = tasks()
    largest = max(given, key=lambda task: len(task.rows))
    with Workers(2) as workers:
        before = solve_all(given, workers, SilentProgress())
        pids = [process.pid or 0 for process in workers.started.values()]
        monkeypatch.setattr("indexer.workers.is_large", lambda n: n == len(largest.rows))
        solve_all([largest], workers, SilentProgress())
        assert not workers.started
        assert not any(alive(pid) for pid in pids)
        after = solve_all(given, workers, SilentProgress())
        assert workers.started
    assert [each.edges for each in before] == [each.edges for each in after]


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_that_is_killed_is_told(busy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tasks, or while it solves one: a run stops with one line, and no process is left."""
    monkeypatch.setattr("indexer.workers.LEAST", 1)
    given = tasks()
    with Workers(2) as workers:
        solve_all(given, workers, SilentProgress())
        pids = [process.pid or 0 for process in workers.started.values()]

        class Kills(SilentProgress):
            def advance(self, n: int = 1, note: str = "") -> None:
                kill_all(pids)

        if not busy:
            kill_all(pids)
        with pytest.raises(StopError, match="--jobs 1"):
            solve_all(given * 5, workers, Kills() if busy else SilentProgress())
    assert not any(alive(pid) for pid in pids)


def test_a_bug_in_a_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.workers.LEAST", 1)
    given = tasks()
    wrong = replace(given[0], metadata=Metadata((), ()))
    with pytest.raises(IndexError), Workers(2) as workers:
        solve_all([*given, wrong], workers, SilentProgress())


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


_PARENT = """
import sys
from indexer import workers
from store.errors import StopError
from store.progress import SilentProgress
from tests.test_workers import tasks

workers.LEAST = 1
if __name__ == "__main__":
    with workers.Workers(2) as crew:
        workers.solve_all(tasks(), crew, SilentProgress())
        print(*(process.pid for process in crew.started.values()), flush=True)
        sys.stdin.read()
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
