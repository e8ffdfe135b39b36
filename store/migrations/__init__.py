"""From one schema version to the next: a SQL file a step, named after the version that it leads to.

A step is written against what the step before it left, and never changed once released: graphs of every version since
the first are brought up to date by the same steps, whatever the schema has become. Views, macros and comments are no
part of it; they are made anew at the end.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

import duckdb

from store.errors import StopError
from store.format import SCHEMA_VERSION
from store.schema import refresh_views

__all__ = ["FIRST_VERSION", "migrate", "schema_version"]

FIRST_VERSION: Final = 1
"""The oldest schema that can be brought up to date."""


def schema_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The schema version of an open graph, at most that of this code; `path` is for the message.

    Raises StopError when it is newer, or says none.
    """
    try:
        settings = dict(connection.execute("select key, value from settings").fetchall())
    except duckdb.CatalogException:
        settings = {}
    version = settings.get("schema_version", "unknown")
    if version.isdecimal() and FIRST_VERSION <= int(version) <= SCHEMA_VERSION:
        return int(version)
    if version.isdecimal() and int(version) > SCHEMA_VERSION:
        todo = f"it was written by a newer one{_writer(connection)}: install that, or open another graph"
    else:
        todo = "make the graph anew with `modelkin index`, into another folder"
    raise StopError(
        f"{path}: the graph has schema version {version}, this modelkin knows {FIRST_VERSION} to {SCHEMA_VERSION}; "
        f"{todo}"
    )


def _writer(connection: duckdb.DuckDBPyConnection) -> str:
    """Which modelkin wrote last, for the message. A newer schema may have no such table."""
    try:
        row = connection.execute("select arg_max(version, run_id) from runs").fetchone()
    except duckdb.Error:
        return ""
    return f" (modelkin {row[0]})" if row and row[0] else ""


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the current database of `connection` from `version` to this code's; all of it, or nothing on an error."""
    if version == SCHEMA_VERSION:
        return
    connection.begin()
    try:
        for step in range(version + 1, SCHEMA_VERSION + 1):
            connection.execute(resources.files(__name__).joinpath(f"{step}.sql").read_text(encoding="utf-8"))
        refresh_views(connection)
        connection.execute("update settings set value = ? where key = 'schema_version'", [str(SCHEMA_VERSION)])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
