"""What is asked of many models by several processes: the same answers, and nothing that is left running or locked."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.forks import in_fork, in_turns
from indexer.memo import Fetched, Memo
from indexer.solve import solve_component
from store.answers import Answers
from store.errors import StopError
from store.lock import is_held, lock
from tests.grown import family_of
from tests.test_large import computed, crowd
from tests.test_workers import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process asks all")


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.forks.LEAST", 1)


def test_each_part_is_asked_in_a_process_of_its_own() -> None:
    told = in_turns(range(7), 3, lambda rows: (os.getpid(), in_fork(), [row**2 for row in rows]))
    assert sorted(row for rows, _ in told for row in rows) == list(range(7))
    assert all(squares == [row**2 for row in rows] for rows, (_, _, squares) in told)
    assert len({pid for _, (pid, *_) in told}) == 3
    assert [forked for _, (_, forked, _) in told] == [False, True, True]
    assert not any(alive(pid) for _, (pid, *_) in told[1:])


@pytest.mark.parametrize(("rows", "processes"), [(range(0), 2), (range(1), 2), (range(9), 1)])
def test_few_are_asked_here(rows: range, processes: int) -> None:
    assert in_turns(rows, processes, lambda some: (os.getpid(), some)) == [(list(rows), (os.getpid(), list(rows)))]


def test_what_is_raised_there_is_raised_here() -> None:
    def ask(rows: list[int]) -> None:
        if 1 in rows:
            raise KeyError("one")

    with pytest.raises(KeyError, match="one"):
        in_turns(range(4), 2, ask)
    with pytest.raises(KeyError, match="one"):
        in_turns(range(1, 5), 2, ask)


def test_a_process_that_is_killed_is_told() -> None:
    def ask(rows: list[int]) -> list[int]:
        if in_fork():
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    with pytest.raises(StopError, match="--jobs 1"):
        in_turns(range(4), 2, ask)


def test_without_processes_all_is_asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, left = os.fork, [1]

    def once() -> int:
        if not left:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        left.pop()
        return fork()

    monkeypatch.setattr(os, "fork", once)
    told = in_turns(range(9), 4, lambda rows: (os.getpid(), rows))
    assert sorted(row for rows, _ in told for row in rows) == list(range(9))
    assert [pid == os.getpid() for _, (pid, _) in told] == [True, False, True, True]


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 3)), st.integers(1, 4))
def test_a_question_that_was_asked_ahead_is_not_asked_again(stored: dict[int, int], processes: int) -> None:
    """Whatever was remembered before, and with whatever else was noted on the way."""

    def about(memo: Memo, rows: list[int], asked: list[int]) -> list[int]:
        def compute(row: int) -> Callable[[], bytes]:
            def told() -> bytes:
                asked.append(row)
                # Not everything that is asked has something to note.
                if row % 3:
                    memo.hold("beside", str(row), bytes([row]))
                return bytes([row])

            return told

        answers = [memo.answer("kind", str(row), [], compute(row)) for row in rows]
        for row in rows:
            if row not in asked:
                memo.hold_on("beside", str(row), "kind")
        return [answer[0] for answer in answers]

    first = Memo()
    about(first, sorted(stored), [])
    for row in stored:
        first.hold("beside", str(row), b"before")
    outdated = {key: told for key, told in first.used.items() if key[1] == "beside" or stored[int(key[0])]}
    plain, shared = Memo(outdated), Memo(outdated, "", processes)
    every, asked, more = list(range(31)), list[int](), list[int]()
    wanted = about(plain, every, more)
    shared.ahead(every, lambda rows: about(shared, rows, []))
    assert about(shared, every, asked) == wanted
    assert shared.used == plain.used
    assert asked == (more if processes == 1 else [])


def test_a_fork_fetches_nothing() -> None:
    """It has no connection: what is not known there is computed."""
    fetched: list[str] = []

    def fetch(contents: list[str]) -> Answers:
        assert not in_fork()
        fetched.extend(contents)
        return {}

    memo = Memo(Fetched(fetch), "", 2)
    memo.ahead([1, 2], lambda rows: [memo.answer("kind", str(row), [], lambda: b"") for row in rows])
    assert fetched == ["1"]


def test_a_large_tree_solved_by_two_is_that_of_one() -> None:
    family = family_of({**(models := crowd(3, 40)), **computed(models)})
    one, two = (solve_component(family, dense=2, threads=threads) for threads in (1, 2))
    assert len(one.edges) > 40
    assert (one.edges, one.pairs, one.merges, one.stages, dict(one.memory)) == (
        two.edges, two.pairs, two.merges, two.stages, dict(two.memory),
    )  # fmt: skip


_PARENT = """
import os, sys, time
from pathlib import Path
from indexer import forks
from store.lock import lock

forks.LEAST = 1

def ask(rows):
    if forks.in_fork():
        print(os.getpid(), flush=True)
    time.sleep(600)

with lock(Path(sys.argv[1])):
    forks.in_turns([1, 2], 2, ask)
"""


def test_forks_end_with_a_parent_that_is_killed_and_hold_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_held(tmp_path)
        parent.kill()
    assert not is_held(tmp_path)
    with lock(tmp_path):
        pass
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)


def test_a_lock_is_kept_while_forks_come_and_go(tmp_path: Path) -> None:
    with lock(tmp_path):
        in_turns(range(4), 2, lambda rows: rows)
        assert is_held(tmp_path)
    assert not is_held(tmp_path)
