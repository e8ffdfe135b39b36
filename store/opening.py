"""One database file, opened for reading: as it is, brought up to date, or as it was after a run; and its shards."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from store.errors import StopError
from store.format import SCHEMA_VERSION
from store.history import AsOf, runs_of, settle_run
from store.migrations import migrate, schema_version
from store.schema import create_past, sketches_view

__all__ = ["MOST_IN_MEMORY", "open_database", "show_sketches"]

MOST_IN_MEMORY: Final = 1 << 28
"""Bytes of a database of an older schema that a reader brings up to date in memory."""


def open_database(database: Path, graph: Path, as_of: AsOf | None) -> duckdb.DuckDBPyConnection:
    """A connection on which the names of the tables mean those of `as_of`, or of the present where it is None.

    Nothing is written to the file. `graph` is for messages. Raises StopError for a newer schema, for an older one in a
    file of more than `MOST_IN_MEMORY`, and for an `as_of` that means no finished run; duckdb.Error when the file cannot
    be opened.
    """
    connection = duckdb.connect(str(database), read_only=True)
    try:
        version = schema_version(connection, graph)
        if as_of is None and version == SCHEMA_VERSION:
            return connection
        if version < SCHEMA_VERSION and database.stat().st_size > MOST_IN_MEMORY:
            raise StopError(
                f"{graph}: the graph has schema version {version}, this modelkin reads {SCHEMA_VERSION}; "
                f"`modelkin update --graph {graph}` brings it up to date"
            )
        run = None if as_of is None else settle_run(runs_of(connection), as_of, datetime.now(UTC))
    except BaseException:
        connection.close()
        raise
    connection.close()
    return _beside(database, version, run)


def _beside(database: Path, version: int, run: int | None) -> duckdb.DuckDBPyConnection:
    """A database in memory that shows the file, brought up to date from `version`, as of `run` unless that is None."""
    connection = duckdb.connect()
    shown = "memory" if run is None else "present"
    file = "'" + str(database).replace("'", "''") + "'"
    if version == SCHEMA_VERSION:
        connection.execute(f"attach {file} as {shown} (read_only)")
    else:
        if run is not None:
            connection.execute("attach ':memory:' as present")
        connection.execute(f"attach {file} as old (read_only)")
        connection.execute(f"copy from database old to {shown}")
        connection.execute("detach old")
        connection.execute(f"use {shown}")
        migrate(connection, version)
        connection.execute("use memory")
    if run is not None:
        create_past(connection, run)
    return connection


def show_sketches(connection: duckdb.DuckDBPyConnection, graph: Path) -> None:
    """Create the view `sketches`, for this connection alone: reads the foot of every shard.

    Raises StopError when a shard is damaged.
    """
    rows = connection.execute("select distinct shard from models where removed_run is null order by 1").fetchall()
    shards = [str((graph / row[0]).resolve()) for row in rows]
    present = [shard for shard in shards if Path(shard).exists()]
    if not present:
        return
    try:
        connection.execute(sketches_view(present))
    except duckdb.Error as error:
        raise StopError(
            f"{graph}: its sketches cannot be read ({str(error).partition(chr(10))[0]}); "
            "`modelkin check` says which file is damaged, `modelkin repair` mends the graph"
        ) from error
