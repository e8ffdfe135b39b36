"""Measured pairs of models as columns, and writing them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import duckdb
import pyarrow as pa

from store.ids import LISTED

__all__ = ["PAIRS", "replace_pairs"]

PAIRS: Final = pa.schema(
    {
        **dict.fromkeys(("model_a", "model_b"), pa.int64()),
        **dict.fromkeys(("distance", "correlation", "shared", "equal"), pa.float64()),
        "rank": pa.int32(),
    }
)
"""Of a table of pairs of related models, model_a < model_b."""


def replace_pairs(connection: duckdb.DuckDBPyConnection, pairs: Any, models: Collection[int]) -> None:
    """Replace the stored pairs that any of `models` takes part in by an Arrow table of PAIRS; writes only what
    differs."""
    if not models:
        return
    connection.register("incoming", pairs)
    connection.execute(
        f"""delete from pairs where (model_a in {LISTED} or model_b in {LISTED}) and not exists (
            from incoming i where {" and ".join(f"i.{name} is not distinct from pairs.{name}" for name in PAIRS.names)})
        """,
        [list(models)] * 2,
    )
    connection.execute("insert into pairs by name select * from incoming i anti join pairs using (model_a, model_b)")
    connection.unregister("incoming")
