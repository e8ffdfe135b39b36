"""Families of a graph's models, read from its shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np

from indexer.family import Family
from indexer.gathered import COLUMNS, gather_family
from indexer.metadata import Metadata
from store.lineage import LiveModel, architecture_roles, declared_bases, live_models, read_sketches

__all__ = ["Reader", "load_family", "load_metadata"]


class Reader:
    """Model ids -> their family, by name; what was read last is not read again."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, graph: Path, architecture: str) -> None:
        self._connection, self._graph, self._architecture = connection, graph, architecture
        self._last: Family | None = None

    def __call__(self, ids: Sequence[int]) -> Family:
        if self._last is not None:
            rows = np.flatnonzero(np.isin(self._last.model_ids, ids))
            if len(rows) == len(set(ids)):
                return self._last.take(rows)
        # One at a time.
        self._last = None
        models = live_models(self._connection, self._architecture, ids)
        self._last = load_family(self._connection, self._graph, self._architecture, models)
        return self._last


def load_family(
    connection: duckdb.DuckDBPyConnection, graph: Path, architecture: str, models: list[LiveModel]
) -> Family:
    """The family of these models, with what their sketches say."""
    return gather_family(
        architecture,
        [(m.model_id, m.name, m.content_hash, m.created) for m in models],
        read_sketches(graph, models, COLUMNS),
        architecture_roles(connection, architecture),
        frozenset(m.model_id for m in models if m.quantization),
    )


def load_metadata(connection: duckdb.DuckDBPyConnection, architecture: str, models: list[LiveModel]) -> Metadata:
    """What the cards of these models declare, in their order."""
    bases = declared_bases(connection, architecture, [m.model_id for m in models])
    return Metadata(tuple(m.source for m in models), tuple(bases.get(m.model_id, ()) for m in models))
