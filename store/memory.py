"""What updates remember and record with the trees: what edges were written from, and which components were touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import duckdb
import pyarrow as pa

from store.answers import Answers
from store.ids import LISTED

__all__ = [
    "all_but",
    "contents_gone",
    "drop_all_but",
    "forget",
    "held_contents",
    "recall",
    "record_touched",
    "recorded",
    "remember",
]

_AT_ONCE: Final = 100_000
_CONTENTS: Final = "(select unnest(?::varchar[]))"


def recall(
    connection: duckdb.DuckDBPyConnection, contents: Collection[str]
) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    """The answers about models of these contents."""
    if not contents:
        return {}
    rows = connection.execute(
        f"select content, kind, digest, answer from memory where content in {_CONTENTS}", [list(contents)]
    ).fetchall()
    return {(content, kind): (digest, answer) for content, kind, digest, answer in rows}


def held_contents(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Contents that there are answers about."""
    return {row[0] for row in connection.execute("select distinct content from memory").fetchall()}


def recorded(connection: duckdb.DuckDBPyConnection, contents: Collection[str]) -> set[tuple[str, str]]:
    """(content, kind) of the answers about models of these contents."""
    return set(
        connection.execute(
            f"select content, kind from memory where content in {_CONTENTS}", [list(contents)]
        ).fetchall()
    )


def remember(connection: duckdb.DuckDBPyConnection, before: Answers, answers: Answers) -> None:
    """Keep these answers in place of those `before`; writes only what differs."""
    changed = [key for key, value in answers.items() if before.get(key) != value]
    outdated = [key for key in changed if key in before]
    outdated += [key for key in before if key not in answers]
    if outdated:
        _register(connection, [(*key, b"", b"") for key in outdated])
        connection.execute(
            "delete from memory using incoming i where memory.content = i.content and memory.kind = i.kind"
        )
        connection.unregister("incoming")
    if changed:
        _register(connection, [(*key, *answers[key]) for key in changed])
        connection.execute("insert into memory select * from incoming")
        connection.unregister("incoming")


def forget(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the answers about contents that no live model has."""
    connection.execute("delete from memory where content not in (select content_hash from live_models)")


def contents_gone(connection: duckdb.DuckDBPyConnection, models: Collection[int]) -> set[str]:
    """The contents of these models that no live model has."""
    rows = connection.execute(
        f"""select distinct content_hash from models where model_id in {LISTED}
            and content_hash not in (select content_hash from live_models)""",
        [list(models)],
    ).fetchall()
    return {row[0] for row in rows}


def all_but(connection: duckdb.DuckDBPyConnection, kinds: str) -> Iterator[Answers]:
    """The answers of other kinds than those that begin so, some at a time."""
    found = connection.cursor().execute(
        "select content, kind, digest, answer from memory where not starts_with(kind, ?)", [kinds]
    )
    while rows := found.fetchmany(_AT_ONCE):
        yield {(content, kind): (digest, answer) for content, kind, digest, answer in rows}


def drop_all_but(connection: duckdb.DuckDBPyConnection, kinds: str) -> None:
    """Drop the answers of other kinds than those that begin so."""
    connection.execute("delete from memory where not starts_with(kind, ?)", [kinds])


def record_touched(
    connection: duckdb.DuckDBPyConnection, run_id: int, rows: Iterable[tuple[int, int, int, int, str]]
) -> None:
    """Note (root, members, arrived, gone, reason) of each component that a run has solved."""
    columns = list(zip(*rows, strict=True))
    if columns:
        names = ("root_id", "members", "arrived", "gone", "reason")
        connection.register("incoming", pa.table(dict(zip(names, columns, strict=True))))
        connection.execute("insert into touched by name select ?::bigint as run_id, * from incoming", [run_id])
        connection.unregister("incoming")


def _register(connection: duckdb.DuckDBPyConnection, rows: list[tuple[str, str, bytes, bytes]]) -> None:
    columns = list(zip(*rows, strict=True))
    connection.register(
        "incoming",
        pa.table(
            {
                "content": pa.array(columns[0], pa.string()),
                "kind": pa.array(columns[1], pa.string()),
                "digest": pa.array(columns[2], pa.binary()),
                "answer": pa.array(columns[3], pa.binary()),
            }
        ),
    )
