"""Where models stood after the last update: what an update starts from."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import numpy as np
from numpy.typing import NDArray

from store.ids import LISTED

__all__ = ["gone_models", "mark_stale", "placed_models", "stale_roots", "stored_links", "stored_paths"]


def placed_models(
    connection: duckdb.DuckDBPyConnection, architecture: str
) -> tuple[NDArray[np.int64], list[str], NDArray[np.int64]]:
    """(ids, content hashes, ids of the roots of their trees, 0 for those that have none yet) of the live models of an
    architecture, by rising id."""
    found = connection.execute(
        """select m.model_id, m.content_hash, coalesce(c.root_id, 0) as root_id
           from live_models m left join components c using (model_id) where m.architecture = ? order by m.model_id""",
        [architecture],
    ).fetchnumpy()
    return found["model_id"].astype(np.int64), list(found["content_hash"]), found["root_id"].astype(np.int64)


def gone_models(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, int, str]]:
    """(id, root of its tree, architecture) of models that have a place and are no longer live."""
    # What makes a model live is said again here: the few that are not are found before any join.
    return connection.execute(
        """select c.model_id, c.root_id, m.architecture from components c join models m using (model_id)
           where c.model_id > 0 and (m.removed_run is null and m.kind = 'model') is not true order by c.model_id"""
    ).fetchall()


def stored_links(
    connection: duckdb.DuckDBPyConnection, models: Collection[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(ids, ids, correlations, shares that both have) of the stored pairs among some models."""
    found = connection.execute(
        f"""select model_a, model_b, correlation, shared from pairs
           where model_a in {LISTED} and model_b in {LISTED}""",
        [list(models)] * 2,
    ).fetchnumpy()
    return found["model_a"], found["model_b"], found["correlation"], found["shared"]


def stored_paths(connection: duckdb.DuckDBPyConnection, models: Collection[int]) -> list[tuple[int, list[int]]]:
    """(id, its line of descent as it was last found, root first and itself last) of some models."""
    return connection.execute(
        f"select model_id, path from components where model_id in {LISTED} order by model_id", [list(models)]
    ).fetchall()


def mark_stale(connection: duckdb.DuckDBPyConnection, models: Collection[int] | None = None) -> None:
    """Have the trees of these models, or all, solved again by whatever update comes next."""
    some, given = "", []
    if models is not None:
        some = f"where root_id in (select root_id from components where model_id in {LISTED})"
        given = [list(models)]
    connection.execute(f"update components set stale = true {some}", given)


def stale_roots(connection: duckdb.DuckDBPyConnection) -> frozenset[int]:
    """Roots of trees that were found with other dates than their models have now."""
    return frozenset(row[0] for row in connection.execute("select root_id from components where stale").fetchall())
