"""Measured pairs of models as columns, and writing them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

__all__ = ["PAIRS", "replace_pairs"]

PAIRS: Final = pa.schema(
    {
        **dict.fromkeys(("model_a", "model_b"), pa.int64()),
        **dict.fromkeys(("distance", "correlation", "shared", "equal"), pa.float64()),
        "rank": pa.int32(),
    }
)
"""Of a table of pairs of related models, model_a < model_b."""

_DIFFER: Final = " or ".join(f"i.{name} is distinct from h.{name}" for name in PAIRS.names[2:])
"""As a condition of its own beside the join by ids: as part of the join, all columns would be hashed."""


def replace_pairs(connection: duckdb.DuckDBPyConnection, pairs: Any, models: Collection[int]) -> None:
    """Replace the stored pairs that any of `models` takes part in by an Arrow table of PAIRS; writes only what
    differs."""
    if not models:
        return
    connection.register("incoming", pairs)
    connection.register("asked", pa.table({"model_id": np.fromiter(models, np.int64, len(models))}))
    differing = connection.execute(
        f"""with held as (select * from pairs where model_a in (from asked) or model_b in (from asked))
            select coalesce(i.model_a, h.model_a) as model_a, coalesce(i.model_b, h.model_b) as model_b
            from incoming i full join held h on i.model_a = h.model_a and i.model_b = h.model_b
            where i.model_a is null or h.model_a is null or {_DIFFER}"""
    ).fetchnumpy()
    if len(differing["model_a"]):
        connection.register("differing", pa.table(differing))
        connection.execute(
            """delete from pairs using differing d where pairs.model_a = d.model_a and pairs.model_b = d.model_b
               and (pairs.model_a in (from asked) or pairs.model_b in (from asked))"""
        )
        connection.execute(
            """insert into pairs by name select * from incoming semi join differing using (model_a, model_b)
               anti join pairs using (model_a, model_b)"""
        )
        connection.unregister("differing")
    connection.unregister("asked")
    connection.unregister("incoming")
