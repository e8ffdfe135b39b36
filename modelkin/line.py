"""The line of descent of one model by look-ups of keys: DuckDB plans a join of views for longer than it reads."""

from __future__ import annotations

import duckdb

from modelkin.rows import Ancestor

__all__ = ["line_of_descent"]


def line_of_descent(connection: duckdb.DuckDBPyConnection, model_id: int) -> list[Ancestor]:
    """The ancestors of a model that has a place, parent first, root last."""
    [(path,)] = connection.execute("select path from components where model_id = ?", [model_id]).fetchall()
    above = path[:-1]
    if not above:
        return []
    # Numbers of our own: as literals they are looked up in the keys' index.
    models, children = (", ".join(map(str, ids)) for ids in (above, path[1:]))
    names = f"select model_id, name, source, false from models where model_id in ({models})"
    if any(node < 0 for node in above):
        names += (
            f" union all select distinct inferred_id, name, null, true from inferred where inferred_id in ({models})"
        )
    rows = connection.execute(names).fetchall()
    (shared,) = connection.execute("select list(name) from ambiguous").fetchone() or ([],)
    called = {node: (f"{source}/{name}" if name in (shared or ()) else name, new) for node, name, source, new in rows}
    edges = connection.execute(
        "select child_id, relation, distance, confidence from edges "
        f"where valid_to_run is null and child_id in ({children})"
    ).fetchall()
    below = {child: told for child, *told in edges}
    result = []
    for generation, (node, child) in enumerate(zip(reversed(above), reversed(path), strict=False), 1):
        name, inferred = called[node]
        relation, distance, confidence = below.get(child, (None, None, None))
        result.append(Ancestor(generation, name, relation, distance, confidence, inferred))
    return result
