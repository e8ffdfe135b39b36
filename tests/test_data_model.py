"""The schema, the records that cross module boundaries, and the page that lists them agree."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from scripts.data_model import document
from store.pairs import PAIRS
from store.records import Claim, Edge, Evidence, Merge, Model, Skipped
from store.schema import TABLES, create_schema

ROOT = Path(__file__).parent.parent


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    create_schema(connection)
    return connection


def columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in connection.execute(f"describe {table}").fetchall()}


def test_records_have_the_names_of_their_columns(connection: duckdb.DuckDBPyConnection) -> None:
    def names(record: type) -> set[str]:
        return {f.name for f in fields(record)}

    assert names(Claim) | {"model_id"} == columns(connection, "claims")
    assert set(PAIRS.names) == columns(connection, "pairs")
    assert names(Edge) | {"valid_from_run", "valid_to_run"} == columns(connection, "edges")
    assert names(Merge) | {"valid_from_run", "valid_to_run"} == columns(connection, "merges")
    assert names(Skipped) | {"run_id", "source"} == columns(connection, "skipped")
    assert names(Model) - {"sketches", "claims"} | {"model_id", "shard", "added_run", "removed_run"} == columns(
        connection, "models"
    )
    kind = connection.execute(
        "select data_type from duckdb_columns() where table_name = 'edges' and column_name = 'evidence'"
    ).fetchone()
    assert kind is not None
    assert all(f.name in kind[0] for f in fields(Evidence))


def test_everything_has_a_comment(connection: duckdb.DuckDBPyConnection) -> None:
    missing = connection.execute(
        "select table_name, column_name from duckdb_columns() where not internal and comment is null "
        "and table_name in (select unnest(?))",
        [list(TABLES)],
    ).fetchall()
    assert missing == []


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "data-model.md").read_text() == document(), "run python -m scripts.data_model"
