"""A family straight from the shards' columns: what `indexer.from_sketches.make_family` gathers sketch by sketch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexer.family import Family, TensorColumn
from indexer.samples import Samples
from store.dtypes import DTYPES

__all__ = ["COLUMNS", "SAMPLED", "gather_family", "scatter"]

_NUMBERS: Final = ("elements", "covered", "mean", "sum_squares", "m2", "m4", "minimum", "maximum", "zeros")
COLUMNS: Final = ("model_id", "tensor", "dtype", "shape", *_NUMBERS, "content_hash", "samples", "projection")
"""Of a shard, those that a family is made from."""
SAMPLED: Final = ("model_id", "tensor", "dtype", "samples", "projection")
"""Those that samples and projections are made from."""
_SMALL: Final = 1 << 26
_COUNTER: Final = "num_batches_tracked"

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of one table, k of them, those of one tensor."""

    rows: Ints
    """Rows of the family."""
    at: Ints
    """Rows of the table."""
    table: Any
    numbers: Mapping[str, NDArray[Any]]

    def kept(self, which: NDArray[np.bool_]) -> _Part:
        """Those of them."""
        return _Part(self.rows[which], self.at[which], self.table, self.numbers)

    def number(self, name: str) -> NDArray[Any]:
        """k values."""
        return self.numbers[name][self.at]

    def texts(self, name: str) -> NDArray[np.object_]:
        """k values."""
        taken = self.table.column(name).take(pa.array(self.at))
        return np.asarray(taken.to_numpy(zero_copy_only=False), object)

    def contents(self, dtypes: NDArray[np.object_]) -> Iterator[tuple[Ints, NDArray[Any]]]:
        """(rows, their samples) of those of one dtype and number, which are given for the k."""
        values, starts, sizes = self.lists("samples")
        for dtype in sorted(set(dtypes.tolist())):
            held = dtypes == dtype
            for size in np.unique(sizes[held]):
                which = held & (sizes == size)
                yield self.rows[which], _taken(values, starts[which], int(size)).view(DTYPES[str(dtype)])

    def fill(self, present: NDArray[np.bool_], values: NDArray[np.float32]) -> None:
        """Put the samples into the rows of n x m `values`, zeros where none are `present`."""
        there = present[self.rows]
        values[self.rows[~there]] = 0.0
        part = self.kept(there)
        for rows, content in part.contents(part.texts("dtype")):
            values[rows] = content[:, : values.shape[1]]

    def lists(self, name: str) -> tuple[NDArray[Any], Ints, Ints]:
        """(all values of a column of lists or bytes, where the k begin, their lengths)."""
        column = self.table.column(name).chunk(0)
        offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, 4 * column.offset).astype(np.int64)
        values = np.frombuffer(column.buffers()[2], np.uint8) if pa.types.is_binary(column.type) else column.values
        return np.asarray(values), offsets[self.at], np.diff(offsets)[self.at]


def gather_family(
    architecture: str,
    models: Sequence[tuple[int, str, str, float]],
    tables: Iterable[Any],
    roles: Mapping[str, str],
    quantized: frozenset[int] = frozenset(),
) -> Family:
    """As `make_family` does from sketches. `models` holds (model id, name, content hash, created); `tables` have
    COLUMNS, and rows of these models only; `quantized` are ids of models whose files hold quantised weights."""
    ids = np.array([model[0] for model in models], np.int64)
    parts: dict[str, list[_Part]] = {}
    counted: list[tuple[Ints, NDArray[np.float64]]] = []
    for name, part in _parts(tables, ids):
        parts.setdefault(name, []).append(part)
        if name.endswith(_COUNTER):
            single = part.kept(part.number("elements") == 1)
            counted.append((single.rows, single.number("maximum")))
    columns, projections = [], {}
    for name, role in roles.items():
        if name in parts:
            column, projection = _column(name, role, len(models), parts[name])
            columns.append(column)
            if projection is not None:
                projections[name] = projection
    family = Family(
        architecture,
        ids,
        tuple(model[1] for model in models),
        tuple(model[2] for model in models),
        np.array([model[3] for model in models], np.float64),
        _counters(len(models), counted),
        tuple(columns),
        projections,
        quantized,
    )
    return family.joined()


def scatter(
    tables: Iterable[Any],
    ids: Ints,
    samples: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.float32]]],
    projections: Mapping[str, NDArray[np.float32]],
) -> Ints:
    """Put what tables of SAMPLED columns hold into arrays of n rows, one a model of `ids`; returns the rows that were
    filled, as a family has them: NaN where there is no projection.

    `samples` is tensor -> (n: which models have it, n x m; those of the others are 0).
    """
    filled = []
    for name, part in _parts(tables, ids):
        filled.append(part.rows)
        if name in samples:
            present, values = samples[name]
            part.fill(present, values)
        if name in projections:
            held = projections[name]
            told, starts, sizes = part.lists("projection")
            whole = sizes == held.shape[1]
            held[part.rows[~whole]] = np.nan
            held[part.rows[whole]] = _taken(told, starts[whole], held.shape[1])
    return np.unique(np.concatenate([ids[:0], *filled]))


def _parts(tables: Iterable[Any], ids: Ints) -> Iterator[tuple[str, _Part]]:
    """(tensor, its rows of a table) of each table; its models are among `ids`."""
    order = np.argsort(ids, kind="stable")
    for table in _together([table for table in tables if table.num_rows]):
        rows = order[np.searchsorted(ids[order], table.column("model_id").to_numpy())]
        names = table.column("tensor").combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy()
        numbers = {
            name: table.column(name).to_numpy() if name in table.column_names else np.zeros(table.num_rows)
            for name in _NUMBERS
        }
        for code, name in enumerate(names.dictionary.to_pylist()):
            at = np.flatnonzero(codes == code)
            yield name, _Part(rows[at], at, table, numbers)


def _together(tables: list[Any]) -> Iterator[Any]:
    """The tables in one chunk each; small ones as one, since each costs as much as a hundred models."""
    if len(tables) > 1 and sum(table.nbytes for table in tables) < _SMALL:
        tables = [pa.concat_tables(tables)]
    return (table.combine_chunks() for table in tables)


def _column(name: str, role: str, n: int, parts: list[_Part]) -> tuple[TensorColumn, NDArray[np.float32] | None]:
    """One tensor of n models, and its projections if there are any."""
    # An older sketch of a large tensor has other coordinates: nothing of it compares with those of today.
    covered = min(int(part.number("covered").min()) for part in parts)
    parts = [kept for part in parts if len((kept := part.kept(part.number("covered") == covered)).rows)]
    first = min(parts, key=lambda part: int(part.rows.min()))
    at = int(first.at[np.argmin(first.rows)])
    scale = int(first.numbers["elements"][at]) / covered
    told: dict[str, NDArray[Any]] = {number: np.zeros(n) for number in _NUMBERS}
    present = np.zeros(n, bool)
    hashes, dtypes = np.full(n, b"", object), np.full(n, "", object)
    for part in parts:
        present[part.rows] = True
        for number, values in told.items():
            values[part.rows] = part.number(number)
        hashes[part.rows], dtypes[part.rows] = part.texts("content_hash"), part.texts("dtype")
    samples, even = _samples(n, parts, dtypes)
    column = TensorColumn(
        name=name,
        shape=tuple(first.table.column("shape")[at].as_py()),
        role=role,
        samples=Samples.of(samples),
        present=present,
        sum_squares=scale * told["sum_squares"],
        mean=told["mean"],
        m2=told["m2"],
        m4=told["m4"],
        minimum=told["minimum"],
        maximum=told["maximum"],
        zeros=np.rint(scale * told["zeros"]).astype(np.int64),
        hashes=hashes,
        dtypes=dtypes,
        covered=covered,
        even=even,
    )
    return column, _projections(n, parts)


def _samples(n: int, parts: list[_Part], dtypes: NDArray[np.object_]) -> tuple[NDArray[Any], bool]:
    """(n x m: what is there of all, zeros where a model has none, in float32 if that holds any value of their dtypes;
    whether all that have any have as many)."""
    found = [block for part in parts for block in part.contents(dtypes[part.rows])]
    m = min(content.shape[1] for _, content in found)
    short = all(np.can_cast(content.dtype, np.float32) for _, content in found)
    samples = np.zeros((n, m), np.float32 if short else np.float64)
    for rows, content in found:
        samples[rows] = content[:, :m]
    return samples, all(content.shape[1] == m for _, content in found)


def _taken(values: NDArray[Any], starts: Ints, size: int) -> NDArray[Any]:
    """k x size: from each start on."""
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(values, size)[starts] if size else
                                np.empty((len(starts), 0), values.dtype))  # fmt: skip


def _projections(n: int, parts: list[_Part]) -> NDArray[np.float32] | None:
    """n x k*k, NaN where a model has none or another size; None where none has any."""
    told = [(part.rows, *part.lists("projection")) for part in parts]
    k = max(int(sizes.max()) for *_, sizes in told)
    if not k:
        return None
    result = np.full((n, k), np.nan, np.float32)
    for rows, values, starts, sizes in told:
        whole = sizes == k
        if whole.any():
            result[rows[whole]] = _taken(values, starts[whole], k)
    return result


def _counters(n: int, counted: list[tuple[Ints, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """n: the median of a model's step counters, as layers that were added or frozen later count fewer; NaN without."""
    result = np.full(n, np.nan)
    if counted:
        rows, counts = (np.concatenate(column) for column in zip(*counted, strict=True))
        for row in np.unique(rows):
            result[row] = float(np.median(counts[rows == row]))
    return result
