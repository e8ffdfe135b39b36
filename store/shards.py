"""Sketches in Parquet: immutable shards, written to a temporary name, fsynced, then renamed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from store.checksum import file_checksum, with_checksum
from store.errors import StopError
from store.format import READABLE_VERSIONS, SKETCH_VERSION, SketchFormat
from store.records import TensorSketch

__all__ = [
    "SCHEMA",
    "as_now",
    "check_columns",
    "fsync_directory",
    "read_columns",
    "read_models",
    "read_shard",
    "sketch_table",
    "write_named_shard",
    "write_shard",
]

SCHEMA: Final = pa.schema(
    [
        ("model_id", pa.int64()),
        ("tensor", pa.string()),
        ("source_name", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("elements", pa.int64()),
        ("covered", pa.int64()),
        ("mean", pa.float64()),
        ("sum_squares", pa.float64()),
        ("m2", pa.float64()),
        ("m3", pa.float64()),
        ("m4", pa.float64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("zeros", pa.int64()),
        ("content_hash", pa.binary(16)),
        ("outlier_values", pa.list_(pa.float64())),
        ("outlier_positions", pa.list_(pa.int64())),
        ("samples", pa.binary()),
        ("projection", pa.list_(pa.float32())),
        ("whole_hash", pa.binary(16)),
    ]
)
"""Columns of a shard: `model_id` and the fields of `TensorSketch`."""

_FIRST_SCHEMA: Final = pa.schema([field for field in SCHEMA if field.name not in ("covered", "whole_hash")])
"""Of version 1, which read all of every tensor."""

_ID_COLUMN: Final = SCHEMA.get_field_index("model_id")
_GROUP_ROWS: Final = 256
"""Tensors of a row group: reading one model reads a model or a few, not its shard."""
_FIELDS: Final = tuple(name for name in SCHEMA.names if name != "model_id")


def fsync_directory(path: Path) -> None:
    """Make renames within `path` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(path: Path) -> None:
    """As mkdir(parents=True, exist_ok=True), and durable."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_directory(path.parent)


def write_shard(path: Path, models: Iterable[tuple[int, Sequence[TensorSketch]]], form: SketchFormat) -> int:
    """Write (model id, sketches) to `path` atomically; returns the file's size in bytes.

    Raises OSError when the disk is full; no partial file is then left under the final name.
    """
    _write(path, models, form, named=False)
    return path.stat().st_size


def write_named_shard(path: Path, models: Iterable[tuple[int, Sequence[TensorSketch]]], form: SketchFormat) -> Path:
    """As `write_shard`, with the file's checksum added to its name; returns where it lies."""
    return _write(path, models, form, named=True)


def sketch_table(models: Iterable[tuple[int, Sequence[TensorSketch]]]) -> Any:
    """An Arrow table as a shard holds it, of (model id, sketches)."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for model_id, sketches in models:
        for sketch in sketches:
            columns["model_id"].append(model_id)
            for name in _FIELDS:
                columns[name].append(getattr(sketch, name))
    return pa.table(columns, schema=SCHEMA)


def _write(
    path: Path, models: Iterable[tuple[int, Sequence[TensorSketch]]], form: SketchFormat, *, named: bool
) -> Path:
    table = sketch_table(models).replace_schema_metadata(form.as_metadata())
    _make_folder(path.parent)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                use_dictionary=["dtype", "tensor", "source_name"],
                write_page_checksum=True,
                row_group_size=_GROUP_ROWS,
            )
            file.flush()
            os.fsync(file.fileno())
        final = with_checksum(path, file_checksum(temporary)) if named else path
        temporary.replace(final)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)
    return final


def read_shard(path: Path, model_ids: Collection[int]) -> Iterator[tuple[int, tuple[TensorSketch, ...]]]:
    """Yield (model id, sketches) for the wanted models of one shard, in the shard's order.

    Raises StopError when the shard is missing, damaged, or of another sketch version.
    """
    table = _read_table(path, wanted=model_ids)
    wanted = set(model_ids)
    rows: list[TensorSketch] = []
    current: int | None = None
    columns = {name: table.column(name).to_pylist() for name in _FIELDS if not name.startswith(("outlier", "proj"))}
    arrays = {
        "outlier_values": _lists(table, "outlier_values", np.float64),
        "outlier_positions": _lists(table, "outlier_positions", np.int64),
        "projection": _lists(table, "projection", np.float32),
    }
    for at, model_id in enumerate(table.column("model_id").to_pylist()):
        if model_id not in wanted:
            continue
        if model_id != current:
            if current is not None:
                yield current, tuple(rows)
            current, rows = model_id, []
        values = {name: column[at] for name, column in columns.items()}
        values["shape"] = tuple(values["shape"])
        rows.append(TensorSketch(**values, **{name: column[at] for name, column in arrays.items()}))
    if current is not None:
        yield current, tuple(rows)


def read_columns(path: Path, columns: Sequence[str], model_ids: Collection[int]) -> Any:
    """An Arrow table of these columns, with the rows of these models. Raises StopError as `read_shard` does."""
    # Of version 1, a column that is added is made from one that has to be there.
    wanted = list(dict.fromkeys([*columns, "elements"]))
    return _read_table(path, wanted, model_ids).select(list(columns))


def read_models(path: Path, *, whole: bool) -> list[tuple[int, str]]:
    """(model id, tensor) of each row of a shard; `whole` reads, and so checks, all other columns too.

    Raises StopError when the shard is missing, damaged, or of another sketch version.
    """
    table = _read_table(path, SCHEMA.names if whole else ["model_id", "tensor"])
    return list(zip(table.column("model_id").to_pylist(), table.column("tensor").to_pylist(), strict=True))


def _read_table(path: Path, columns: Sequence[str] = SCHEMA.names, wanted: Collection[int] | None = None) -> Any:
    """The shard's rows, or those of the `wanted` models, of which only the row groups that hold them are read."""
    try:
        # Ranges are not joined: a few row groups are read in half the time.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            version, expected = check_columns(path, file.schema_arrow)
            present = [name for name in columns if name in expected.names]
            if wanted is None:
                table = file.read(columns=present)
            else:
                ids = np.fromiter(wanted, np.int64, len(wanted))
                ids.sort()
                groups = _groups(file, ids)
                table = _of_models(file.read_row_groups(groups, columns=present), ids)
                found = pa.compute.count_distinct(table.column("model_id")).as_py()
                if found < len(ids) and len(groups) < file.num_row_groups:
                    table = _of_models(file.read(columns=present), ids)
            return as_now(table) if version == "1" and "elements" in columns else table
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StopError(f"{path}: the shard cannot be read ({error}); delete it and index its source again") from error


def check_columns(path: Path, schema: Any) -> tuple[str, Any]:
    """(sketch version of a shard with this schema, the columns that it has). Raises StopError where it is another."""
    version = (schema.metadata or {}).get(b"modelkin.version", b"").decode("ascii", "replace")
    if version not in map(str, READABLE_VERSIONS):
        raise StopError(
            f"{path}: sketch version {version or 'unknown'}, this modelkin reads {SKETCH_VERSION} and older; "
            "delete it and index its source again, or install the modelkin that wrote the graph"
        )
    expected = _FIRST_SCHEMA if version == "1" else SCHEMA
    if not schema.equals(expected):
        raise StopError(
            f"{path}: expected the columns {', '.join(expected.names)}; delete it and index its source again"
        )
    return version, expected


def _groups(file: Any, ids: NDArray[np.int64]) -> list[int]:
    """The row groups that hold models of these ids (sorted), of those that may by their statistics and the ones beside
    each.

    Statistics have no checksum: where one of them lies, it must not hide a part of a model. Whoever misses a whole one
    reads everything.
    """
    likely = [at for at in range(file.num_row_groups) if _may_hold(file.metadata.row_group(at), ids)]
    near = sorted({beside for at in likely for beside in (at - 1, at, at + 1) if 0 <= beside < file.num_row_groups})
    if not near:
        return near
    # What is beside them is read whole only if it holds a part.
    held = file.read_row_groups(near, columns=["model_id"]).column("model_id").to_numpy()
    ends = np.cumsum([file.metadata.row_group(at).num_rows for at in near])
    return [at for at, rows in zip(near, np.split(np.isin(held, ids), ends[:-1]), strict=True) if rows.any()]


def _of_models(table: Any, ids: NDArray[np.int64]) -> Any:
    return table.filter(pa.compute.is_in(table.column("model_id"), pa.array(ids)))


def _may_hold(group: Any, ids: NDArray[np.int64]) -> bool:
    """Is one of the ids (sorted) between the least and the largest of the group's?"""
    told = group.column(_ID_COLUMN).statistics
    if told is None or not told.has_min_max:
        return True
    return bool(np.searchsorted(ids, told.min) < np.searchsorted(ids, told.max, side="right"))


def as_now(table: Any) -> Any:
    """A table of version 1 with the columns of today: its sketches cover all values, as its hashes do."""
    table = table.append_column(SCHEMA.field("covered"), table.column("elements"))
    if "content_hash" in table.column_names:
        table = table.append_column(SCHEMA.field("whole_hash"), table.column("content_hash"))
    return table.select([name for name in SCHEMA.names if name in table.column_names])


def _lists(table: Any, name: str, dtype: Any) -> list[Any]:
    """A list column as NumPy views, one a row."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=SCHEMA.field(name).type)
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return [values[offsets[i] : offsets[i + 1]] for i in range(len(column))]
