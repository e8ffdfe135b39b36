"""Families of a graph's models, read from its shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexer.bare import Who
from indexer.family import Family
from indexer.gathered import COLUMNS, SAMPLED, gather_family
from indexer.metadata import Metadata
from indexer.prefixes import keep_prefixes, read_by_row
from indexer.stacked import stack
from store.lineage import LiveModel, architecture_roles, declared_bases, live_models, read_sketches
from store.shard_index import ShardIndex

Ints = NDArray[np.int64]

__all__ = ["Reader", "load_family", "load_metadata"]

_PART: Final = 2_048
"""Models, of a larger family, that are read together: so many, or those of one shard."""
_MUCH: Final = 1 << 26
"""Bytes that were read."""


class Reader:
    """Model ids -> their family, by name; what was read last is not read again."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, graph: Path, architecture: str, threads: int = 1) -> None:
        """So many `threads` read."""
        self._connection, self._graph, self._architecture = connection, graph, architecture
        self._threads = threads
        self._models: list[LiveModel] = []
        """Those that were asked for last."""
        self._last: Family | None = None

    def __call__(self, ids: Sequence[int]) -> Family:
        if self._last is not None:
            rows = np.flatnonzero(np.isin(self._last.model_ids, ids))
            if len(rows) == len(set(ids)):
                return self._last.take(rows)
        # One at a time.
        self._last = None
        self._last = self._load(ids)
        return self._last

    def by_row(self, ids: Sequence[int]) -> Family:
        """The same family, of which no more than is looked at is read, if prefixes of its models were kept."""
        if self._last is not None and len(np.intersect1d(self._last.model_ids, ids)) == len(set(ids)):
            return self(ids)
        self._last = None
        models = self._models = live_models(self._connection, self._architecture, ids)
        place = {model.model_id: at for at, model in enumerate(models)}
        roles = architecture_roles(self._connection, self._architecture)
        index = ShardIndex()

        every = np.sort(np.fromiter(place, np.int64, len(place)))

        def tables(some: Sequence[int], columns: Sequence[str] = SAMPLED, beside: Ints | None = every) -> list[Any]:
            shards: dict[str, list[int]] = {}
            for i in some:
                shards.setdefault(models[place[i]].shard, []).append(i)

            def read(shard: str) -> Any:
                return index.read(self._graph / shard, columns, shards[shard], beside)

            # Most of it is decompression, which lets others run.
            with ThreadPoolExecutor(self._threads) as pool:
                return list(pool.map(read, sorted(shards)))

        def load(some: Sequence[int]) -> Family:
            few = [models[at] for at in sorted(place[i] for i in some)]
            return _family(self._architecture, roles, few, tables(some, COLUMNS, None))

        found = read_by_row(self._shortlist, _who(models), _quantized(models), load, tables)
        return self(ids) if found is None else found

    def models(self, ids: Sequence[int]) -> list[LiveModel]:
        """What the graph says of the models of a family, in its order."""
        wanted = set(ids)
        found = [model for model in self._models if model.model_id in wanted]
        return found if len(found) == len(wanted) else live_models(self._connection, self._architecture, ids)

    def keep_prefixes(self, family: Family) -> None:
        """Keep what `by_row` needs of all models of a family."""
        keep_prefixes(self._shortlist, family)

    @property
    def _shortlist(self) -> Path:
        return self._graph / "shortlist"

    def _load(self, ids: Sequence[int]) -> Family:
        models = self._models = live_models(self._connection, self._architecture, ids)
        return load_family(self._connection, self._graph, self._architecture, models, self._threads)


def load_family(
    connection: duckdb.DuckDBPyConnection, graph: Path, architecture: str, models: list[LiveModel], threads: int = 1
) -> Family:
    """The family of these models, with what their sketches say, which so many threads read."""
    roles = architecture_roles(connection, architecture)

    def read(some: Sequence[LiveModel]) -> Family:
        tables = read_sketches(graph, some, COLUMNS, threads)
        family = _family(architecture, roles, some, tables)
        if sum(table.nbytes for table in tables) > _MUCH:
            # Arrow keeps what it was given, in case more is read.
            del tables
            pa.default_memory_pool().release_unused()
        return family

    if len(models) > _PART:
        parts = ((rows, read([models[row] for row in rows.tolist()])) for rows in _by_shard(models))
        stacked = stack(architecture, _who(models), parts, _quantized(models))
        if stacked is not None:
            return stacked
    return read(models)


def _by_shard(models: Sequence[LiveModel]) -> Iterator[Ints]:
    """Rows of models, those of some shards at a time."""
    rows: dict[str, list[int]] = {}
    for row, model in enumerate(models):
        rows.setdefault(model.shard, []).append(row)
    some: list[int] = []
    for shard in sorted(rows):
        some += rows[shard]
        if len(some) >= _PART:
            yield np.sort(np.array(some, np.int64))
            some = []
    if some:
        yield np.sort(np.array(some, np.int64))


def _family(architecture: str, roles: Mapping[str, str], models: Sequence[LiveModel], tables: Sequence[Any]) -> Family:
    return gather_family(architecture, _who(models), tables, roles, _quantized(models))


def _who(models: Sequence[LiveModel]) -> Who:
    return [(m.model_id, m.name, m.content_hash, m.created) for m in models]


def _quantized(models: Sequence[LiveModel]) -> frozenset[int]:
    return frozenset(m.model_id for m in models if m.quantization)


def load_metadata(connection: duckdb.DuckDBPyConnection, architecture: str, models: list[LiveModel]) -> Metadata:
    """What the cards of these models declare, in their order."""
    bases = declared_bases(connection, architecture, [m.model_id for m in models])
    return Metadata(tuple(m.source for m in models), tuple(bases.get(m.model_id, ()) for m in models))
