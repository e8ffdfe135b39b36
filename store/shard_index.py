"""Where the models of shards lie in them, looked up once: then a few are read without looking through the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from store.errors import StopError
from store.shards import as_now, check_columns

__all__ = ["ShardIndex"]

_BESIDE: Final = 4
"""Times as many models as were asked for that may come with them."""


Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Footer:
    metadata: Any
    version: str
    present: frozenset[str]
    """Columns."""
    ids: Ints
    """Model of each row."""
    ends: Ints
    """One past the last row of each row group."""
    models: tuple[Ints, Ints]
    """Those of the shard by rising id, and how many rows each has."""

    def complete(self, rows: Ints) -> Ints:
        """Models all of whose rows are among these, by rising id."""
        there, count = np.unique(self.ids[rows], return_counts=True)
        every, of_each = self.models
        return np.asarray(there[count == of_each[np.searchsorted(every, there)]])


class ShardIndex:
    """Shards that were looked into."""

    def __init__(self) -> None:
        self._known: dict[Path, _Footer] = {}

    def read(
        self,
        path: Path,
        columns: Sequence[str],
        model_ids: Collection[int],
        beside: Ints | None = None,
    ) -> Any:
        """As `store.shards.read_columns`; raises StopError as that does.

        Of models `beside` (ids in rising order), those are there too that come with the others, as row groups are read
        whole, if they are not too many.
        """
        try:
            footer = self._known.get(path)
            if footer is None:
                footer = self._known[path] = _look(path)
            wanted = _among(footer.ids, np.sort(np.fromiter(model_ids, np.int64, len(model_ids))))
            groups = [at for at, rows in enumerate(np.split(wanted, footer.ends[:-1])) if rows.any()]
            starts = np.append(0, footer.ends[:-1])
            read = np.concatenate([np.empty(0, np.int64), *(np.arange(starts[at], footer.ends[at]) for at in groups)])
            held = wanted[read]
            if beside is not None:
                whole = footer.complete(read)
                more_of = whole[_among(whole, beside)]
                if len(more_of) <= _BESIDE * len(model_ids):
                    held |= _among(footer.ids[read], more_of)
            # Of version 1, a column that is added is made from one that has to be there.
            more = ["elements"] if footer.version == "1" else []
            asked = [name for name in dict.fromkeys([*columns, *more]) if name in footer.present]
            with _opened(path, footer.metadata) as file:
                # Few row groups: threads of its own would be waited for longer than they take.
                table = file.read_row_groups(groups, columns=asked, use_threads=False)
            table = table if held.all() else table.filter(pa.array(held))
            return (as_now(table) if footer.version == "1" else table).select(list(columns))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise StopError(
                f"{path}: the shard cannot be read ({error}); delete it and index its source again"
            ) from error


def _opened(path: Path, metadata: Any = None) -> Any:
    # Ranges are not joined: a few row groups are read in half the time.
    return pq.ParquetFile(path, metadata=metadata, page_checksum_verification=True, pre_buffer=False)


def _look(path: Path) -> _Footer:
    with _opened(path) as file:
        version, expected = check_columns(path, file.schema_arrow)
        groups = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        ids = file.read(columns=["model_id"]).column("model_id").to_numpy()
        ends = np.cumsum(groups, dtype=np.int64)
        return _Footer(file.metadata, version, frozenset(expected.names), ids, ends, np.unique(ids, return_counts=True))


def _among(ids: Ints, some: Ints) -> NDArray[np.bool_]:
    """Which ids are among some, in rising order."""
    if not len(some):
        return np.zeros(len(ids), bool)
    return np.asarray(some[np.minimum(np.searchsorted(some, ids), len(some) - 1)] == ids)
