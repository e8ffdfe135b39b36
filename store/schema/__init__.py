"""The SQL files beside this one are the schema: one table a file, with comments; views and macros in the last two."""

from __future__ import annotations

from importlib import resources
from typing import Final

import duckdb

__all__ = ["TABLES", "create_past", "create_schema", "refresh_views", "sketches_view"]

TABLES: Final = (
    "settings",
    "runs",
    "architectures",
    "tensors",
    "models",
    "claims",
    "pairs",
    "inferred",
    "edges",
    "merges",
    "components",
    "placements",
    "skipped",
    "touched",
    "memory",
    "repositories",
    "listings",
)

_VIEWS: Final = ("views", "audit")


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Create every table, view and macro in an empty database."""
    for name in (*TABLES, *_VIEWS):
        connection.execute(_read(name))


def create_past(connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Create the same in an empty database, as of a run: over the attached database `present`, which stays as it is."""
    connection.execute(_read("as_of").replace("{run}", str(int(run_id))))
    for name in _VIEWS:
        connection.execute(_read(name))


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make views, macros and comments anew: they hold no data, and follow the code."""
    views = connection.execute(
        "select view_name from duckdb_views() where not internal and database_name = current_database()"
    ).fetchall()
    macros = connection.execute(
        """select distinct function_name, if(function_type = 'table_macro', 'macro table', 'macro')
           from duckdb_functions() where not internal and database_name = current_database()
           and function_type in ('macro', 'table_macro')"""
    ).fetchall()
    for name, kind in [*((name, "view") for (name,) in views), *macros]:
        connection.execute(f'drop {kind} "{name}"')
    for table in TABLES:
        for statement in connection.extract_statements(_read(table)):
            if statement.query.strip().lower().startswith("comment on"):
                connection.execute(statement)
    for name in _VIEWS:
        connection.execute(_read(name))


def sketches_view(shards: list[str]) -> str:
    """SQL of the view `sketches` over these Parquet files (absolute paths; not empty)."""
    quoted = ", ".join("'" + shard.replace("'", "''") + "'" for shard in shards)
    return _read("sketches").replace("{shards}", f"[{quoted}]")
