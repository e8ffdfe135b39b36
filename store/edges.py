"""Writing edges: what differs from what holds now, found in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
_SAME: Final = " and ".join(f"i.{name} is not distinct from e.{name}" for name in _TOLD.split(", "))
"""What makes two edges the same, whatever run found them."""


def write_edges(
    connection: duckdb.DuckDBPyConnection, run_id: int, edges: Sequence[Edge], children: Collection[int]
) -> tuple[int, int]:
    """Make `edges` the current edges of `children`; write only what differs. Returns (added, closed).

    An edge that this same run wrote before (a run resumed after a kill) is replaced, not closed.
    """
    if not children:
        return 0, 0
    connection.register("incoming", _table(edges))
    adding, closing = (
        [row[0] for row in connection.execute(query, [list(children)]).fetchall()]
        for query in (
            f"""select child_id from incoming i where child_id in {LISTED} and not exists (
                from current_edges e where e.child_id = i.child_id and {_SAME})""",
            f"""select child_id from current_edges e where child_id in {LISTED} and not exists (
                from incoming i where e.child_id = i.child_id and {_SAME})""",
        )
    )
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
    fields = [pa.array([getattr(each, name) for each in told], kind) for name, kind in _EVIDENCE]
    evidence = pa.StructArray.from_arrays(fields, [name for name, _ in _EVIDENCE])
    columns = {name: pa.array([getattr(edge, name) for edge in edges], kind) for name, kind in _COLUMNS}
    return pa.table({**columns, "evidence": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), evidence)})
