"""Reading live models and their sketches, and writing what was found: pairs, edges, components."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from store.descent import descent
from store.edges import write_edges
from store.ids import LISTED
from store.records import Inferred, Merge
from store.shards import read_columns

__all__ = [
    "LiveModel",
    "architecture_roles",
    "close_inferred",
    "declared_bases",
    "live_models",
    "read_sketches",
    "replace_components",
    "setting",
    "write_inferred",
    "write_merges",
]


class LiveModel(NamedTuple):
    """A row of live_models, as the indexer needs it. `created` is seconds since 1970, NaN where unknown."""

    model_id: int
    name: str
    source: str
    architecture: str
    content_hash: str
    created: float
    shard: str
    added_run: int
    quantization: str | None = None


def live_models(
    connection: duckdb.DuckDBPyConnection, architecture: str | None = None, ids: Collection[int] | None = None
) -> list[LiveModel]:
    """Live models, of one architecture or of some ids, by (name, source): an order that does not depend on when they
    arrived."""
    some, given = ("", []) if ids is None else (f"and model_id in {LISTED}", [list(ids)])
    rows = connection.execute(
        f"""select model_id, name, source, architecture, content_hash,
               coalesce(epoch_us(created_at) / 1e6, 'nan'::double), shard, added_run, quantization
           from live_models where (? is null or architecture = ?) {some} order by name, source""",
        [architecture, architecture, *given],
    ).fetchall()
    return list(map(LiveModel._make, rows))


def setting(connection: duckdb.DuckDBPyConnection, key: str) -> str | None:
    """The value of a key in table `settings`."""
    row = connection.execute("select value from settings where key = ?", [key]).fetchone()
    return row[0] if row else None


def declared_bases(
    connection: duckdb.DuckDBPyConnection, architecture: str, ids: Collection[int]
) -> dict[int, tuple[str, ...]]:
    """Model id -> the base models that its card declares, sorted, of some live models of an architecture; those that
    declare none are left out."""
    return {
        model_id: tuple(names)
        for model_id, names in connection.execute(
            f"""select model_id, list_sort(list_distinct(list(k.value)))
               from claims k join live_models m using (model_id)
               where k.field = 'base_model' and m.architecture = ? and k.model_id in {LISTED} group by model_id""",
            [architecture, list(ids)],
        ).fetchall()
    }


def architecture_roles(connection: duckdb.DuckDBPyConnection, architecture: str) -> dict[str, str]:
    """Canonical name -> role of an architecture's backbone, sorted by name."""
    return dict(
        connection.execute(
            "select tensor, role from tensors where architecture = ? order by tensor", [architecture]
        ).fetchall()
    )


def read_sketches(graph: Path, models: Iterable[LiveModel], columns: Sequence[str], threads: int = 1) -> list[Any]:
    """An Arrow table a shard, of these columns of the sketches of these models, which so many threads read. Raises
    StopError when a shard is missing or damaged."""
    by_shard: dict[str, list[int]] = defaultdict(list)
    for model in models:
        by_shard[model.shard].append(model.model_id)
    # Most of it is decompression, which lets others run.
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda shard: read_columns(graph / shard, columns, by_shard[shard]), sorted(by_shard)))


def write_inferred(connection: duckdb.DuckDBPyConnection, run_id: int, inferred: Sequence[Inferred]) -> None:
    """Add the inferred ancestors that are not there already."""
    present = {
        row[0] for row in connection.execute("select inferred_id from inferred where valid_to_run is null").fetchall()
    }
    new = [{**asdict(node), "valid_from_run": run_id} for node in inferred if node.inferred_id not in present]
    _insert(connection, "inferred", new)


def close_inferred(connection: duckdb.DuckDBPyConnection, run_id: int) -> int:
    """End the inferred ancestors that no tree of models holds any more, and their edges. Returns how many edges."""
    # Inferred ancestors are few: what they are looked up among is first cut down to what they name.
    connection.execute(
        """delete from components where model_id < 0 and root_id not in (
               select root_id from components where model_id > 0
               and root_id in (select root_id from components where model_id < 0))"""
    )
    gone = [
        row[0]
        for row in connection.execute(
            """with held as (select inferred_id from inferred where valid_to_run is null)
               select inferred_id from held where inferred_id not in (
                   select model_id from components where model_id in (select inferred_id from held))"""
        ).fetchall()
    ]
    if not gone:
        return 0
    _, closed = write_edges(connection, run_id, [], gone)
    connection.execute(
        "delete from inferred where valid_to_run is null and valid_from_run = ? and list_contains(?, inferred_id)",
        [run_id, gone],
    )
    connection.execute(
        "update inferred set valid_to_run = ? where valid_to_run is null and list_contains(?, inferred_id)",
        [run_id, gone],
    )
    return closed


def write_merges(
    connection: duckdb.DuckDBPyConnection, run_id: int, merges: Iterable[Merge], children: Collection[int]
) -> None:
    """Make `merges` the current merges of `children`, as `write_edges` does for edges."""
    if not children:
        return
    wanted: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for merge in merges:
        wanted[merge.child_id].append(asdict(merge))
    present: dict[int, list[dict[str, Any]]] = defaultdict(list)
    connection.register("asked", pa.table({"child_id": np.fromiter(children, np.int64, len(children))}))
    held = connection.sql(
        "select * exclude (valid_from_run) from current_merges semi join asked using (child_id)"
    ).to_arrow_table()
    connection.unregister("asked")
    for row in held.to_pylist():
        present[row["child_id"]].append(row)

    def content(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return sorted((row["parent_id"], row["coefficient"], row["method"]) for row in rows)

    # Hardly any model is a merge.
    some = sorted((present.keys() | wanted.keys()) & set(children))
    changed = [child for child in some if content(present.get(child, [])) != content(wanted.get(child, []))]
    closing = [child for child in changed if child in present]
    if closing:
        connection.execute(
            f"delete from merges where valid_to_run is null and valid_from_run = ? and child_id in {LISTED}",
            [run_id, closing],
        )
        connection.execute(
            f"update merges set valid_to_run = ? where valid_to_run is null and child_id in {LISTED}",
            [run_id, closing],
        )
    adding = [{**row, "valid_from_run": run_id} for child in changed for row in wanted.get(child, [])]
    _insert(connection, "merges", adding)


def replace_components(
    connection: duckdb.DuckDBPyConnection,
    trees: Iterable[tuple[Sequence[int], dict[int, int]]],
    gone: Collection[int],
    stages: Mapping[int, str] | None = None,
    keep: Collection[int] = (),
) -> None:
    """Write the components of `trees`, each (model ids, child -> parent), and forget the models of `gone`.

    Inferred ancestors stand among the children and parents only. Those to `keep` were placed with what another tree has
    become, of which some of these models were.
    """
    placed = _places(trees, stages or {})
    connection.register("incoming", placed)
    # A tree one of whose models is placed anew is placed anew as a whole, and its inferred ancestors with it.
    connection.execute(
        f"""delete from components where model_id not in (select model_id from incoming) and (model_id in {LISTED} or (
                model_id < 0 and model_id not in {LISTED} and root_id in (
                    select root_id from components semi join incoming using (model_id))))""",
        [list(gone), list(keep)],
    )
    if len(placed):
        # One model more changes `members` of a whole tree, but where hardly any of its nodes stands: a row is written
        # anew for a new path, which is a list, and otherwise changed where it is.
        moved = connection.execute(
            """select i.model_id from incoming i left join components c using (model_id)
               where c.model_id is null or c.root_id <> i.root_id or c.depth <> i.depth or c.path <> i.path
               or c.stage is distinct from i.stage"""
        ).fetchnumpy()
        if len(moved["model_id"]):
            connection.register("moved", pa.table(moved))
            connection.execute("delete from components using moved where components.model_id = moved.model_id")
            connection.execute(
                "insert into components by name select i.* from incoming i semi join moved using (model_id)"
            )
            connection.unregister("moved")
        connection.execute(
            """update components set members = i.members, stale = null from incoming i
               where i.model_id = components.model_id
               and (components.members <> i.members or components.stale is not null)"""
        )
    connection.unregister("incoming")


_PLACES: Final = pa.schema(
    {
        **dict.fromkeys(("model_id", "root_id"), pa.int64()),
        **dict.fromkeys(("depth", "members"), pa.int32()),
        "path": pa.large_list(pa.int64()),
        "stage": pa.string(),
    }
)


def _places(trees: Iterable[tuple[Sequence[int], dict[int, int]]], stages: Mapping[int, str]) -> Any:
    """The rows of some trees, an Arrow table of _PLACES: all in one go, for most trees are small."""
    members: list[int] = []
    parent: dict[int, int] = {}
    for some, above in trees:
        members += some
        parent |= above
    lines = descent(members, parent)
    counts = np.bincount(lines.tops[np.searchsorted(lines.nodes, members)], minlength=len(lines.nodes))
    return pa.table(
        [
            pa.array(lines.nodes),
            pa.array(lines.nodes[lines.tops]),
            pa.array(lines.depths, pa.int32()),
            pa.array(counts[lines.tops], pa.int32()),
            pa.LargeListArray.from_arrays(lines.ends, lines.steps),
            pa.array(map(stages.get, lines.nodes.tolist()), pa.string()),
        ],
        schema=_PLACES,
    )


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.register("incoming", pa.Table.from_pylist(list(rows)))
        connection.execute(f"insert into {table} by name select * from incoming")
        connection.unregister("incoming")
