"""Changes that a repair makes to a graph's tables, within a run: what is lost is marked, what is wrong is taken out.

Nothing is made up here: what was taken out, the update that follows finds again from the sketches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import duckdb

from store.lineage import replace_components

__all__ = [
    "forget_places",
    "mend_keys",
    "mend_names",
    "models_without_architecture",
    "rebuild_components",
    "retire_lost",
]

_LOST: Final = "damaged_sketches"

_MENDED_KEYS: Final = (
    # No edge is taken for written that is taken out here.
    "delete from memory where kind = 'written'",
    "delete from claims where model_id not in (select model_id from models)",
    "delete from pairs where model_a not in (select model_id from models) "
    "or model_b not in (select model_id from models)",
    "delete from edges where child_id not in (select node_id from nodes) "
    "or parent_id not in (select node_id from nodes)",
    "update edges set runner_up_id = null, runner_up_confidence = null "
    "where runner_up_id not in (select model_id from models)",
    "delete from merges where child_id not in (select model_id from models) "
    "or parent_id not in (select model_id from models)",
    """insert into runs (run_id, command, started_at, status, version)
       select distinct run_id, 'unknown', timestamp '1970-01-01', 'interrupted', 'unknown' from (
           select added_run from models union select removed_run from models
           union select valid_from_run from edges union select valid_to_run from edges
           union select valid_from_run from merges union select valid_to_run from merges
           union select valid_from_run from inferred union select valid_to_run from inferred
           union select run_id from skipped
       ) t(run_id) where run_id is not null and run_id not in (select run_id from runs)""",
)

_FORGOTTEN: Final = (
    "delete from components",
    "delete from pairs",
    "delete from memory",
    # Rows that never held tell nothing.
    "delete from edges where valid_to_run <= valid_from_run or child_id = parent_id",
    # The update writes an edge or an ancestor only where it differs from the one that it finds.
    "delete from inferred where inferred_id >= 0 or (valid_to_run is null and inferred_id not in "
    "(select parent_id from current_edges group by parent_id having count(*) = inferred.children))",
    "delete from inferred where valid_to_run is null and rowid not in "
    "(select min(rowid) from inferred where valid_to_run is null group by inferred_id)",
    "update edges set valid_to_run = $run where valid_to_run is null and valid_from_run < $run and "
    "(child_id in (select child_id from current_edges group by child_id having count(*) > 1) "
    "or child_id not in (select model_id from live_models "
    "union all select inferred_id from inferred where valid_to_run is null))",
    "update merges set valid_to_run = $run where valid_to_run is null and valid_from_run < $run and "
    "(child_id not in (select model_id from live_models) or child_id in "
    "(select child_id from current_merges group by child_id having count(*) > count(distinct parent_id)))",
)


def retire_lost(connection: duckdb.DuckDBPyConnection, run_id: int, lost: Mapping[int, str]) -> None:
    """Take models without usable sketches out of the live ones, each with a row in `skipped`.

    The next crawl of their source finds them missing and reads them again.
    """
    for model_id, why in lost.items():
        connection.execute(
            """insert into skipped select $run, source, name, revision, shard, 'model', $reason,
               'its sketches are lost: ' || $why || '; the next run of its source reads it again'
               from live_models where model_id = $model""",
            {"run": run_id, "reason": _LOST, "why": why, "model": model_id},
        )
    connection.execute(
        "update models set removed_run = ? where removed_run is null and list_contains(?, model_id)",
        [run_id, list(lost)],
    )


def models_without_architecture(connection: duckdb.DuckDBPyConnection) -> dict[int, str]:
    """Live models that cannot be compared, since the tensors of their architecture are not told."""
    rows = connection.execute(
        """select model_id, 'the tensors of its architecture ' || architecture || ' are not told' from live_models
           where architecture not in (select architecture from architectures semi join tensors using (architecture))"""
    ).fetchall()
    return dict(rows)


def mend_keys(connection: duckdb.DuckDBPyConnection) -> None:
    """Take out rows that refer to nothing; a run that only other rows know gets a row."""
    for statement in _MENDED_KEYS:
        connection.execute(statement)


def mend_names(connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Of several live rows of one model only the latest stays."""
    connection.execute(
        """update models set removed_run = ? where removed_run is null and model_id not in
           (select max(model_id) from live_models group by source, name)""",
        [run_id],
    )


def forget_places(connection: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Forget every tree, so that the next update solves everything; edges that it finds again keep their rows."""
    for statement in _FORGOTTEN:
        connection.execute(statement, {"run": run_id} if "$run" in statement else {})


def rebuild_components(connection: duckdb.DuckDBPyConnection) -> None:
    """Paths, roots, depths and counts anew from the current edges, which have no circles; stages and staleness stay."""
    parent = dict(connection.execute("select child_id, parent_id from current_edges").fetchall())
    stored = connection.execute("select model_id, stage from components").fetchall()
    root: dict[int, int] = {}
    for node, _ in stored:
        line = []
        while node not in root and node in parent:
            line.append(node)
            node = parent[node]
        root[node] = root.get(node, node)
        root |= dict.fromkeys(line, root[node])
    members: dict[int, list[int]] = defaultdict(list)
    above: dict[int, dict[int, int]] = defaultdict(dict)
    for node, top in root.items():
        if node > 0:
            members[top].append(node)
        if node in parent:
            above[top][node] = parent[node]
    stale = [row[0] for row in connection.execute("select model_id from components where stale").fetchall()]
    connection.execute("delete from components")
    stages = {node: stage for node, stage in stored if stage is not None}
    replace_components(connection, [(members[top], above[top]) for top in set(root.values())], [], stages)
    connection.execute("update components set stale = true where list_contains(?, model_id)", [stale])
