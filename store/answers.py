"""Answers that still hold, beside the graph and not in it: each says itself what it was found from, so that it is as
good in any generation, and none has to be copied into the next one.

Those about one model lie in an SQLite file, those about a whole tree (records) in a file each. All of it is derived
data: what is damaged or missing is found out again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from zlib import crc32

from blake3 import blake3

__all__ = ["AnswerStore", "Answers", "answers_path"]

Answers = Mapping[tuple[str, str], tuple[bytes, bytes]]
"""(content, kind) -> (digest, answer)."""

_TABLE: Final = """create table if not exists answers (
    content text not null, kind text not null, digest blob not null, answer blob not null, checked integer not null,
    primary key (content, kind)) without rowid"""
_CACHE_KB: Final = 65_536
_WAIT_S: Final = 5.0
_RECORD: Final = re.compile(r"([0-9a-f]{32})\.([a-z0-9-]+)\.record")
_CHECK: Final = 16


def answers_path(graph: Path) -> Path:
    """The folder of a graph's answers."""
    return graph / "answers"


class AnswerStore:
    """A context manager. Kinds that begin with `record` are of whole trees."""

    def __init__(self, folder: Path, record: str, *, read_only: bool = False) -> None:
        self._folder, self._record, self._read_only = folder, record, read_only
        self._file = folder / "models.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._kinds: dict[str, set[str]] | None = None
        """Content -> kinds of its records, once it is looked up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def recall(self, contents: Collection[str]) -> dict[tuple[str, str], tuple[bytes, bytes]]:
        """The answers about models of these contents; those that are damaged are passed over."""
        told: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        try:
            with self._among(contents) as c:
                # In this order: SQLite does not know how few are asked.
                rows = c.execute(
                    "select content, kind, digest, answer, checked from asked cross join answers using (content)"
                )
                for content, kind, digest, answer, checked in rows:
                    if crc32(answer, crc32(digest)) == checked:
                        told[content, kind] = digest, answer
        except sqlite3.OperationalError:
            # There is none yet, or it cannot be opened here and now.
            pass
        except sqlite3.DatabaseError:
            if not self._read_only:
                self._start_over()
        for key in self.records(contents):
            answer = _read(self._path(*key))
            if answer is not None:
                told[key] = b"", answer
        return told

    def records(self, contents: Collection[str]) -> set[tuple[str, str]]:
        """(content, kind) of the records that are kept with models of these contents."""
        if self._kinds is None:
            self._kinds = {}
            for path in self._folder.glob("*.record"):
                if (found := _RECORD.fullmatch(path.name)) is not None:
                    kind = self._record + found.group(2).replace("-", " ")
                    self._kinds.setdefault(found.group(1), set()).add(kind)
        held = self._kinds
        return {(content, kind) for content in contents if content in held for kind in held[content]}

    def remember(self, before: Answers, answers: Answers) -> None:
        """Keep these in place of those `before`; writes only what differs. Raises OSError when it cannot be written."""
        changed = [key for key, told in answers.items() if not self._is_record(key) and before.get(key) != told]
        outdated = [key for key in before if not self._is_record(key) and key not in answers]
        self._write(
            [("delete from answers where content = ? and kind = ?", outdated)] if outdated else [],
            [(*key, *answers[key], crc32(answers[key][1], crc32(answers[key][0]))) for key in sorted(changed)],
        )
        for key, (_, answer) in answers.items():
            if self._is_record(key):
                self._write_record(key, answer)
        for key in before:
            if self._is_record(key) and key not in answers:
                self._path(*key).unlink(missing_ok=True)
        self._kinds = None

    def forget(self, contents: Collection[str]) -> None:
        """Drop all answers about models of these contents. Raises OSError when it cannot be written."""
        if contents:
            self._write([("delete from answers where content = ?", [(content,) for content in sorted(contents)])], [])
        for key in self.records(contents):
            self._path(*key).unlink(missing_ok=True)
        self._kinds = None

    def _is_record(self, key: tuple[str, str]) -> bool:
        return key[1].startswith(self._record)

    def _write(
        self, deleting: Sequence[tuple[str, Sequence[tuple[str, ...]]]], adding: Sequence[tuple[object, ...]]
    ) -> None:
        if not deleting and not adding:
            return
        for last in (False, True):
            try:
                c = self._open()
                with c:
                    for statement, rows in deleting:
                        c.executemany(statement, rows)
                    c.executemany("insert or replace into answers values (?, ?, ?, ?, ?)", adding)
                return
            except sqlite3.OperationalError as error:
                raise OSError(f"{self._file}: {error}") from error
            except sqlite3.DatabaseError as error:
                if last:
                    raise OSError(f"{self._file}: {error}") from error
                self._start_over()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._read_only:
                # Without a place for the file that readers share, SQLite reads only what nobody changes.
                how = "mode=ro" if os.access(self._folder, os.W_OK) else "mode=ro&immutable=1"
                c = sqlite3.connect(f"{self._file.absolute().as_uri()}?{how}", _WAIT_S, uri=True)
            else:
                self._folder.mkdir(exist_ok=True)
                c = sqlite3.connect(self._file, _WAIT_S)
            self._connection = c
            c.execute(f"pragma cache_size = -{_CACHE_KB}")
            if not self._read_only:
                # Readers go on reading while it is written, and a commit need not reach the disk: but for the last
                # ones nothing is lost then, and what is lost is found out again.
                c.execute("pragma journal_mode = wal")
                c.execute("pragma synchronous = normal")
                c.execute(_TABLE)
        return self._connection

    @contextmanager
    def _among(self, contents: Collection[str]) -> Iterator[sqlite3.Connection]:
        """The connection, with a table `asked` of contents."""
        if self._read_only and not self._file.exists():
            raise sqlite3.OperationalError("there is none")
        c = self._open()
        c.execute("create temp table if not exists asked (content text primary key) without rowid")
        with c:
            c.executemany("insert or ignore into asked values (?)", ((content,) for content in contents))
            yield c
            c.execute("delete from asked")

    def _start_over(self) -> None:
        """Without what cannot be read."""
        self._close()
        for path in self._folder.glob(f"{self._file.name}*"):
            path.unlink(missing_ok=True)

    def _path(self, content: str, kind: str) -> Path:
        return self._folder / f"{content}.{kind.removeprefix(self._record).replace(' ', '-')}.record"

    def _write_record(self, key: tuple[str, str], answer: bytes) -> None:
        path = self._path(*key)
        if _RECORD.fullmatch(path.name) is None:
            return
        check = blake3(answer).digest(_CHECK)
        if _check(path) == (check, len(answer)):
            return
        self._folder.mkdir(exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(check)
                file.write(answer)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _check(path: Path) -> tuple[bytes, int] | None:
    """(what a record's answer has to check to, its length)."""
    try:
        with path.open("rb") as file:
            return file.read(_CHECK), path.stat().st_size - _CHECK
    except OSError:
        return None


def _read(path: Path) -> bytes | None:
    """A record's answer; None where it is damaged."""
    try:
        with path.open("rb") as file:
            check, answer = file.read(_CHECK), file.read()
    except OSError:
        return None
    return answer if blake3(answer).digest(_CHECK) == check else None
