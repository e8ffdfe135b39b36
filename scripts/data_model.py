"""docs/data-model.md from the SQL files' own comments: `python -m scripts.data_model > docs/data-model.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields

import duckdb

from store.format import SCHEMA_VERSION, SketchFormat
from store.records import TensorSketch
from store.schema import TABLES, create_schema
from store.shards import SCHEMA

_SKETCHES = {
    "model_id": "References models.",
    "tensor": "Canonical name: wrappers such as `module.` or `bert.` are stripped.",
    "source_name": "Name in the file.",
    "dtype": "Element type as safetensors writes it: F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8, ...",
    "shape": "Lengths of the axes.",
    "elements": "Number of values; at least 1.",
    "covered": "Values that the sketch is of: all, or one run of a tensor of more than 2^20 elements.",
    "mean": "Mean of the covered values, float64, as all moments are.",
    "sum_squares": "Sum of squares of the covered values: the squared L2 norm.",
    "m2": "Second central moment, E[(x - mean)^2]; 0 for a constant tensor.",
    "m3": "Third central moment. Skewness is m3 / m2^1.5.",
    "m4": "Fourth central moment. Kurtosis is m4 / m2^2 (3 for a Gaussian).",
    "minimum": "Smallest value.",
    "maximum": "Largest value.",
    "zeros": "Values that are exactly 0, of either sign.",
    "content_hash": "First 16 bytes of BLAKE3 of the stored bytes of the covered values.",
    "outlier_values": "Values of largest magnitude, largest first, ties by lower position.",
    "outlier_positions": "Their flat positions in C order.",
    "samples": "Values at the seeded positions of a tensor of this many elements, little-endian in `dtype`, lossless.",
    "projection": "k x k signed band sums P'WQ, row by row, float32; empty for tensors that are not projected.",
    "whole_hash": "First 16 bytes of BLAKE3 of all stored bytes; null where they were not all read.",
}


def document() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Data model"
    yield ""
    yield "Made by `python -m scripts.data_model > docs/data-model.md` from the comments in `store/schema/`; a test"
    yield f"compares the two. Schema version {SCHEMA_VERSION}."
    yield ""
    yield "A graph is a folder:"
    yield ""
    yield "```"
    yield "graph/"
    yield "  CURRENT                            names the current generation; replaced atomically"
    yield "  graph-000042.duckdb                all tables; readers open it read-only"
    yield "  building.duckdb                    the next generation while a run writes, or what a killed run left"
    yield "  sketches/arch=KEY/RUN-FIRST-N-CHECKSUM.parquet   immutable shards of sketches, by architecture"
    yield "  shortlist/KEY.vectors              derived: search vectors of an architecture; KEY.SHAPE: of large trees"
    yield "  answers/models.sqlite              derived: what updates remember of models"
    yield "  answers/CONTENT.KIND.record        derived: what they remember of a large tree"
    yield "  LOCK                               held by the one writer"
    yield "  schedule.sqlite                    jobs of `modelkin schedule`, where it is used"
    yield "```"
    yield ""
    yield "What is derived may be deleted: it is made again, which takes time and changes nothing. Table `answers` of"
    yield "models.sqlite has a row for each model (by content hash) and question: curved and depends (is it a"
    yield "merge?), derived (with the number of the round), hung and lattice (what was it rounded from, and is it"
    yield "rounded?), told (what speaks for its edge), tuned (was it trained from a merge?), roots, age, held (does"
    yield "it hold what made a copy?), kept (of what is no zero in it, the nearest), piles and fits (of merges),"
    yield "beside the nearest (how far from it what is in its list lies), cues and ranks of pairs; the digest of what"
    yield "the answer was computed from, empty where the answer says so itself; the answer; a CRC-32 of both. Records"
    yield "are near and above (lists of nearest and of possible parents), pruned (those nearest in what is no zero),"
    yield "eight-bits, true-nearest, relatives, from-the-middle and pairs-of-edges (distances that lists do not"
    yield "hold), parents (costs of candidate edges), and who is no merge and no copy (depends, curved, none); a"
    yield "number is the width of a row. Each begins with 16 bytes of BLAKE3 over the rest."
    yield ""
    yield "## Requirements"
    yield ""
    yield "`modelkin check` verifies all of these but the last two."
    yield ""
    yield "- (source, name) is unique among models with removed_run null; rows of models are never deleted."
    yield "- A model has at most one edge with valid_to_run null as a child, and its parent is live: no circles."
    yield "- A merge has two or more current rows in merges, one of them its edge's parent; no circles here either."
    yield "- components has a row for each live model after an update; its path follows current edges from the root."
    yield "- Every live model's shard exists, has the checksum that its name tells, and holds its rows."
    yield "- placements has one row with valid_to_run null for each row of components, when a run has been published."
    yield "- Edges, pairs and components depend on the live models' sketches alone (with metadata, on their dates and"
    yield "  cards too), not on the order of arrival."
    yield "- Times are UTC without a zone; sizes are bytes; durations are seconds; probabilities lie in [0, 1]."
    connection = duckdb.connect()
    create_schema(connection)
    for table in TABLES:
        yield from _table(connection, table, "Tables" if table == TABLES[0] else None)
    yield ""
    yield "## Sketches"
    yield ""
    form = SketchFormat()
    yield "The view `sketches` reads the shards of live models: one row for each tensor of each model. The shards'"
    yield "key-value metadata holds the format:"
    yield ""
    for name, value in form.as_metadata().items():
        yield f"- `{name}` = {value}"
    yield ""
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    assert set(_SKETCHES) == set(SCHEMA.names) == {"model_id", *(f.name for f in fields(TensorSketch))}
    for field in SCHEMA:
        yield f"| {field.name} | {field.type} | {_SKETCHES[field.name]} |"
    yield ""
    yield "## Views and macros"
    views = connection.execute(
        "select view_name, comment from duckdb_views() where not internal order by view_name"
    ).fetchall()
    for name, comment in views:
        yield ""
        yield f"### {name}"
        yield ""
        yield comment
        yield ""
        columns = connection.execute(f"describe {name}").fetchall()
        yield "Columns: " + ", ".join(f"`{row[0]}`" for row in columns) + "."
    yield ""
    yield "### Table macros"
    yield ""
    yield "- `ancestors_of(m)`: generation (1 = parent), model, and the edge that leads from it down towards `m`."
    yield "- `descendants_of(m)`: generation (1 = child), model, its parent and edge."
    yield "- `siblings_of(m)`: the other children of `m`'s parent, with their edges."


def _table(connection: duckdb.DuckDBPyConnection, table: str, heading: str | None) -> Iterator[str]:
    if heading:
        yield ""
        yield f"## {heading}"
    comment = connection.execute("select comment from duckdb_tables() where table_name = ?", [table]).fetchone()
    assert comment is not None
    yield ""
    yield f"### {table}"
    yield ""
    yield str(comment[0])
    yield ""
    yield "| column | type | required | meaning |"
    yield "|---|---|---|---|"
    rows = connection.execute(
        """select column_name, data_type, not is_nullable, comment from duckdb_columns()
           where table_name = ? order by column_index""",
        [table],
    ).fetchall()
    for name, kind, required, meaning in rows:
        yield f"| {name} | {kind.lower()} | {'yes' if required else ''} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(document())
