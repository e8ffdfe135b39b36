"""Answers kept beside the graph: what was written is read, and what is damaged is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl.folder import FolderSource
from indexer.kept_answers import kept_answers, recalled
from store.answers import Answers, AnswerStore, answers_path
from store.generation import open_reader
from tests.runs import index, writer
from tests.weights import family

ROOT = Path(__file__).parent.parent
CONTENTS = [f"{at:032x}" for at in (1, 2, 15)]
KEY = st.tuples(st.sampled_from(CONTENTS), st.sampled_from(["near", "derived 0", "tree near 16", "tree above 8"]))
ANSWERS = st.dictionaries(KEY, st.tuples(st.binary(max_size=2), st.binary(max_size=300)))


def as_kept(answers: Answers) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    """Records say themselves what they hold for, and have no digest."""
    return {key: (b"" if key[1].startswith("tree ") else told[0], told[1]) for key, told in answers.items()}


@given(st.lists(st.tuples(st.sets(st.sampled_from(CONTENTS)), ANSWERS), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_answers_are_those_that_were_given(steps: list[tuple[set[str], Any]]) -> None:
    rows: Any = {}
    with TemporaryDirectory() as folder:
        for contents, told in steps:
            answers = as_kept({key: answer for key, answer in told.items() if key[0] in contents})
            with AnswerStore(Path(folder) / "answers", "tree ") as store:
                before = store.recall(contents)
                assert before == {key: answer for key, answer in rows.items() if key[0] in contents}
                store.remember(before, answers)
                rows = {key: answer for key, answer in rows.items() if key[0] not in contents} | answers
                assert store.recall(CONTENTS) == rows
                assert store.records(CONTENTS) == {key for key in rows if key[1].startswith("tree ")}
        with AnswerStore(Path(folder) / "answers", "tree ", read_only=True) as store:
            assert store.recall(CONTENTS) == rows
        with AnswerStore(Path(folder) / "answers", "tree ") as store:
            store.forget(CONTENTS[:1])
            assert store.recall(CONTENTS) == {key: answer for key, answer in rows.items() if key[0] != CONTENTS[0]}


TOLD = {(CONTENTS[0], "near"): (b"d", b"abc"), (CONTENTS[0], "tree near 8"): (b"", b"12345678"),
        (CONTENTS[1], "told"): (b"e", b"x" * 9000)}  # fmt: skip


@pytest.mark.parametrize("harm", ["garbage", "cut", "empty", "gone"])
def test_a_damaged_file_is_started_over(tmp_path: Path, harm: str) -> None:
    with AnswerStore(tmp_path, "tree ") as store:
        store.remember({}, TOLD)
    path = tmp_path / "models.sqlite"
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes({"garbage": b"\xff" * len(content), "cut": content[:5000], "empty": b""}[harm])
    with AnswerStore(tmp_path, "tree ", read_only=True) as store:
        assert set(store.recall(CONTENTS)) <= set(TOLD)
    with AnswerStore(tmp_path, "tree ") as store:
        left = store.recall(CONTENTS)
        assert left.items() <= TOLD.items()
        store.remember(left, TOLD)
        assert store.recall(CONTENTS) == TOLD


def test_a_damaged_answer_is_not_there(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, "tree ") as store:
        store.remember({}, TOLD)
    path = tmp_path / "models.sqlite"
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    (record,) = tmp_path.glob("*.record")
    record.write_bytes(record.read_bytes()[:-1] + b"9")
    with AnswerStore(tmp_path, "tree ") as store:
        assert store.recall(CONTENTS).keys() == {(CONTENTS[1], "told")}


def test_there_is_none_yet(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "answers", "tree ", read_only=True) as store:
        assert store.recall(CONTENTS) == {}
    assert not (tmp_path / "answers").exists()


_WRITES = """
import sys
from pathlib import Path
from store.answers import AnswerStore
with AnswerStore(Path(sys.argv[1]), "tree ") as store:
    for at in range(1_000_000):
        told = {(f"{i % 40:032x}", kind): (b"", str(at).encode() * 500) for i in range(40) for kind in ("a", "tree b")}
        store.remember({}, told)
        print(at, flush=True)
"""


def test_a_kill_leaves_whole_answers(tmp_path: Path) -> None:
    for rounds in (3, 8):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < rounds:
                pass
            os.kill(process.pid, signal.SIGKILL)
        with AnswerStore(tmp_path, "tree ") as store:
            told = store.recall([f"{i:032x}" for i in range(40)])
        assert len(told) == 80
        for _, answer in told.values():
            number = answer[: len(answer) // 500]
            assert answer == number * 500
            assert int(number) >= rounds


def test_a_graph_that_holds_them_hands_them_over(tmp_path: Path) -> None:
    family(tmp_path / "source", "good", 1)
    index(tmp_path / "source", tmp_path / "graph")
    rows = [(content, kind, *told) for (content, kind), told in TOLD.items()]
    with writer(tmp_path / "graph", FolderSource(tmp_path / "source")) as run:
        run.connection.executemany("insert into memory values (?, ?, ?, ?)", rows)
        run.connection.execute("insert into memory values (?, 'tree written 48', '', 'w')", [CONTENTS[0]])
        with kept_answers(run.connection, run.folder.path) as kept:
            assert kept.recall(CONTENTS) == {**TOLD, (CONTENTS[0], "tree written 48"): (b"", b"w")}
        run.publish()
    assert recalled(tmp_path / "graph", CONTENTS) == TOLD
    assert answers_path(tmp_path / "graph").is_dir()
    with open_reader(tmp_path / "graph") as connection:
        assert connection.sql("select kind from memory").fetchall() == [("tree written 48",)]
