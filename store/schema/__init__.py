"""The SQL files beside this one are the schema: one table a file, with comments; views and macros in views.sql."""

from __future__ import annotations

from importlib import resources
from typing import Final

import duckdb

__all__ = ["TABLES", "create_schema", "sketches_view"]

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
    "skipped",
)


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Create every table, view and macro in an empty database."""
    for name in (*TABLES, "views"):
        connection.execute(_read(name))


def sketches_view(shards: list[str]) -> str:
    """SQL of the view `sketches` over these Parquet files (absolute paths; not empty)."""
    quoted = ", ".join("'" + shard.replace("'", "''") + "'" for shard in shards)
    return _read("sketches").replace("{shards}", f"[{quoted}]")
