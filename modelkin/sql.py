"""SQL that the user writes, on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from store.errors import StopError
from store.opening import show_sketches

__all__ = ["OwnSql", "fetched"]

_BATCH: Final = 2_000


class OwnSql:
    """Statements of the user's, one at a time: while a result is read, DuckDB refuses other queries on its connection.

    The view `sketches` is there from the first statement on, since making it takes longer the more shards there are.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, graph: Path) -> None:
        self._connection = connection
        self._graph = graph
        self._ready = False

    def close(self) -> None:
        """Relations that were given are dead then."""
        self._connection.close()

    def relation(self, query: str) -> duckdb.DuckDBPyRelation:
        """What `ModelGraph.sql` says."""
        try:
            self._prepare(query)
            relation = self._connection.sql(query)
        except duckdb.Error as error:
            raise StopError(str(error).strip()) from error
        # Settings and the like are done, without rows.
        return self._connection.sql("select true as done") if relation is None else relation

    def rows(self, query: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """What `ModelGraph.sql_rows` says."""
        try:
            self._prepare(query)
            cursor = self._connection.execute(query)
        except duckdb.Error as error:
            raise StopError(str(error).strip()) from error
        return [column[0] for column in cursor.description or ()], fetched(cursor)

    def _prepare(self, query: str) -> None:
        statements = self._connection.extract_statements(query)
        if len(statements) != 1:
            raise StopError(f"expected one SQL statement, found {len(statements)}")
        if not self._ready:
            show_sketches(self._connection, self._graph)
            self._ready = True


def fetched(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """The rows of a query in batches."""
    while batch := cursor.fetchmany(_BATCH):
        yield from batch
