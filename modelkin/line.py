"""The line of descent of one model, and all models below one, by look-ups of keys.

DuckDB plans a join of views for longer than it takes to read a handful of rows, and reads whole tables for it. An index
is used for one condition on one column: what else is asked of a row is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import duckdb

from modelkin.naming import several_sources, shared_names
from modelkin.rows import Ancestor, Descendant

__all__ = ["Lines"]

# Names kept: those of roots are asked for again and again. Some 20 MB.
_KEPT: Final = 1 << 17

_BELOW: Final = """
    select model_id, depth from components
    where root_id = ? and depth > ? and path[?] = ?
"""


class _Edge(NamedTuple):
    parent_id: int
    relation: str
    distance: float
    confidence: float


class Lines:
    """Look-ups in one generation, which stays as it is: what holds for all of it is found out once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._several_sources: bool | None = None
        self._called: dict[int, tuple[str, bool]] = {}

    def path(self, model_id: int) -> list[int] | None:
        """Ids from the root to the model; None for one that has no place yet."""
        row = self._connection.execute(f"select path from components where model_id = {model_id:d}").fetchone()
        return row[0] if row else None

    def above(self, path: list[int]) -> list[Ancestor]:
        """The ancestors of the last model of a path, parent first, root last."""
        above = path[:-1]
        if not above:
            return []
        called = self._named(above)
        edges = self._edges(path[1:])
        result = []
        for generation, (node, child) in enumerate(zip(reversed(above), reversed(path), strict=False), 1):
            name, inferred = called[node]
            edge = edges.get(child)
            relation, distance, confidence = edge[1:] if edge else (None, None, None)
            result.append(Ancestor(generation, name, relation, distance, confidence, inferred))
        return result

    def below(self, path: list[int]) -> list[Descendant]:
        """All below the last model of a path: by generation, parent and name."""
        rows = self._connection.execute(_BELOW, [path[0], len(path) - 1, len(path), path[-1]]).fetchall()
        if not rows:
            return []
        edges = self._edges(node for node, _ in rows)
        called = self._named({*(node for node, _ in rows), *(edge.parent_id for edge in edges.values())})
        result = []
        for node, depth in rows:
            edge = edges[node]
            (name, inferred), (parent, _) = called[node], called[edge.parent_id]
            generation = depth - len(path) + 1
            result.append(Descendant(generation, name, parent, edge.relation, edge.distance, edge.confidence, inferred))
        return sorted(result, key=lambda row: (row.generation, row.parent, row.model))

    def _named(self, nodes: Iterable[int]) -> dict[int, tuple[str, bool]]:
        """Id -> what it is called in answers, and whether it is an inferred ancestor."""
        nodes = set(nodes)
        if len(self._called) > _KEPT:
            self._called.clear()
        unknown = nodes - self._called.keys()
        if unknown:
            self._called |= self._look_up(unknown)
        return {node: self._called[node] for node in nodes}

    def _look_up(self, nodes: set[int]) -> dict[int, tuple[str, bool]]:
        # Numbers of our own: as literals they are looked up in the keys' index.
        rows = self._connection.execute(
            f"select model_id, name, source from models where model_id in ({_listed(n for n in nodes if n > 0)})"
        ).fetchall()
        if self._several_sources is None:
            self._several_sources = several_sources(self._connection)
        shared = shared_names(self._connection, [row[1] for row in rows]) if self._several_sources else set()
        called = {node: (f"{source}/{name}" if name in shared else name, False) for node, name, source in rows}
        if any(node < 0 for node in nodes):
            rows = self._connection.execute(
                "select distinct inferred_id, name from inferred "
                f"where inferred_id in ({_listed(n for n in nodes if n < 0)})"
            ).fetchall()
            called |= {node: (name, True) for node, name in rows}
        return called

    def _edges(self, children: Iterable[int]) -> dict[int, _Edge]:
        """Child -> its current edge."""
        rows = self._connection.execute(
            "select child_id, valid_to_run, parent_id, relation, distance, confidence from edges "
            f"where child_id in ({_listed(children)})"
        ).fetchall()
        return {child: _Edge._make(told) for child, ended, *told in rows if ended is None}


def _listed(ids: Iterable[int]) -> str:
    return ", ".join(map(str, ids)) or "null"
