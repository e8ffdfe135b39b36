"""Writing edges: what differs from what holds now, found in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from store.ids import LISTED
from store.records import Edge

__all__ = ["stand", "write_edges"]

_EVIDENCE: Final = (("cue", pa.string()), ("value", pa.float64()), ("log_odds", pa.float64()), ("says", pa.string()))
_COLUMNS: Final = (
    ("child_id", pa.int64()),
    ("parent_id", pa.int64()),
    ("relation", pa.string()),
    ("distance", pa.float64()),
    ("confidence", pa.float64()),
    ("runner_up_id", pa.int64()),
    ("runner_up_confidence", pa.float64()),
)
_TOLD: Final = ", ".join([*(name for name, _ in _COLUMNS[1:]), "evidence"])
_DIFFER: Final = " or ".join(f"i.{name} is distinct from e.{name}" for name in _TOLD.split(", "))
"""What makes two edges of a child differ, whatever run found them. As a condition of its own beside the join by ids: as
part of the join, all columns would be hashed, evidence too."""


def write_edges(
    connection: duckdb.DuckDBPyConnection, run_id: int, edges: Sequence[Edge], children: Collection[int]
) -> tuple[int, int]:
    """Make `edges` the current edges of `children`; write only what differs. Returns (added, closed).

    An edge that this same run wrote before (a run resumed after a kill) is replaced, not closed.
    """
    if not children:
        return 0, 0
    connection.register("incoming", _table(edges))
    connection.register("asked", pa.table({"child_id": np.fromiter(children, np.int64, len(children))}))
    rows = connection.execute(
        f"""with wanted as (from incoming semi join asked using (child_id)),
            held as (from current_edges semi join asked using (child_id))
            select coalesce(i.child_id, e.child_id), i.child_id is not null, e.child_id is not null
            from wanted i full join held e on i.child_id = e.child_id
            where i.child_id is null or e.child_id is null or {_DIFFER}"""
    ).fetchall()
    adding = sorted({child for child, wanted, _ in rows if wanted})
    closing = sorted({child for child, _, held in rows if held})
    if closing:
        connection.execute(
            f"delete from edges where valid_to_run is null and valid_from_run = ? and child_id in {LISTED}",
            [run_id, closing],
        )
        connection.execute(
            f"update edges set valid_to_run = ? where valid_to_run is null and child_id in {LISTED}",
            [run_id, closing],
        )
    if adding:
        connection.execute(
            f"""insert into edges by name
                select child_id, {_TOLD}, ? as valid_from_run from incoming where child_id in {LISTED}""",
            [run_id, adding],
        )
    connection.unregister("asked")
    connection.unregister("incoming")
    return len(adding), len(closing)


def stand(connection: duckdb.DuckDBPyConnection, parents: Mapping[int, int]) -> bool:
    """Are these (child -> parent) among the current edges?"""
    held = connection.execute(
        f"select child_id, parent_id from current_edges where child_id in {LISTED}", [list(parents)]
    ).fetchall()
    return dict(held) == parents


def _table(edges: Sequence[Edge]) -> Any:
    """Column by column: a dict an edge would take ten times as long."""
    told = [evidence for edge in edges for evidence in edge.evidence]
    ends = np.cumsum([0, *(len(edge.evidence) for edge in edges)])
    fields = [pa.array(list(map(attrgetter(name), told)), kind) for name, kind in _EVIDENCE]
    evidence = pa.StructArray.from_arrays(fields, [name for name, _ in _EVIDENCE])
    columns = {name: pa.array(list(map(attrgetter(name), edges)), kind) for name, kind in _COLUMNS}
    return pa.table({**columns, "evidence": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), evidence)})
