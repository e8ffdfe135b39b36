"""The Python client: one Model Graph, opened for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import duckdb

from modelkin import queries
from modelkin.line import Lines
from modelkin.naming import create_label, find_model
from modelkin.rows import (
    Ancestor,
    AuditRow,
    Claimed,
    Descendant,
    Edge,
    Evidence,
    Explanation,
    Measured,
    MergeParent,
    ModelRow,
    Parent,
    Rows,
    RunRow,
    Sibling,
    SkippedRow,
    row_of,
)
from modelkin.sql import OwnSql, fetched
from modelkin.tables import counted
from modelkin.tree import Placed, Tree, build_tree
from store.errors import StopError
from store.generation import GraphFolder, open_generation
from store.history import AsOf

if TYPE_CHECKING:
    import networkx as nx

    from indexer.identify import Relative
    from modelkin.changes import ChangedEdge

__all__ = ["ModelGraph"]

T = TypeVar("T")


class ModelGraph:
    """A Model Graph as it was when it was opened: a run that publishes meanwhile changes nothing here.

    Methods take a model's name, `source/name`, or the last parts of its name if they mean one model only; else
    they raise UnknownModelError or AmbiguousModelError. Not for use from several threads at once.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, as_of: RunRow | None = None) -> None:
        self.path = path
        self.as_of = as_of
        """The run after which everything is shown as it was then; None for the present."""
        self._own = OwnSql(connection, path)
        self._connection = connection.cursor()
        self._lines = Lines(self._connection)
        self._has_label = False

    @classmethod
    def open(cls, path: Path | str = "graph", *, as_of: AsOf | None = None) -> Self:
        """Open the current generation in folder `path`, or the graph as it was after a run.

        `as_of` is the number of a run, or a date or datetime (also as text; UTC): the last run that had finished by
        then, or by the end of that day. Raises StopError when there is no graph, or no such run.
        """
        connection, _ = open_generation(GraphFolder(path), as_of)
        graph = cls(Path(path), connection)
        if as_of is not None:
            graph.as_of = graph.runs()[-1]
        return graph

    def close(self) -> None:
        """Let go of the files. Relations that `sql` gave are dead then."""
        self._connection.close()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def generation(self) -> int:
        """Number of the generation that was opened; counts up with every run that publishes."""
        return int(self._value("select value from settings where key = 'base_generation'")) + 1

    def __len__(self) -> int:
        """Live models."""
        return int(self._value("select count(*) from live_models"))

    def __bool__(self) -> bool:
        return True

    def __contains__(self, model: object) -> bool:
        """Whether `model` means one model."""
        with suppress(StopError):
            return isinstance(model, str) and find_model(self._connection, model) is not None
        return False

    def __iter__(self) -> Iterator[str]:
        """Names of the live models, sorted."""
        yield from (row.name for row in self.each_model())

    def __repr__(self) -> str:
        try:
            trees, alone = self.trees_and_alone()
        except duckdb.ConnectionException:
            return f"<ModelGraph {self.path}: closed>"
        more = f", {alone:,} without relatives" if alone else ""
        return (
            f"<ModelGraph {self.path}: {counted(len(self), 'model')}, {counted(trees, 'tree')}{more}, "
            f"generation {self.generation}{f', as of run {self.as_of.run_id}' if self.as_of else ''}>"
        )

    def _repr_html_(self) -> str:
        from modelkin.html import preformatted

        return preformatted(repr(self))

    def trees_and_alone(self) -> tuple[int, int]:
        """How many trees of two or more models there are, and how many models without relatives."""
        trees, alone = self._connection.execute(queries.TREES_AND_ALONE).fetchall()[0]
        return int(trees), int(alone)

    def ancestors(self, model: str) -> Rows[Ancestor]:
        """The line of descent upwards, parent first, root last; empty for a root."""
        return Rows(self._lines.above(self._path(model)))

    def parents(self, model: str) -> Rows[Parent]:
        """All its parents: several for a merge, largest share first; empty for a root."""
        return Rows(self._rows(Parent, queries.PARENTS, self._placed(model)))

    def descendants(self, model: str) -> Rows[Descendant]:
        """All models below, children first."""
        return Rows(self._lines.below(self._path(model)))

    def siblings(self, model: str) -> Rows[Sibling]:
        """The other children of its parent, by name; empty for a root."""
        return Rows(self._rows(Sibling, queries.SIBLINGS, self._placed(model)))

    def tree(self, model: str) -> Tree:
        """The whole Model Tree that the model belongs to."""
        model_id = self._placed(model)
        rows = self._labelled().execute(queries.TREE, [model_id]).fetchall()
        return build_tree((Placed(*row) for row in rows), model_id)

    def trees(self) -> Iterator[Tree]:
        """All Model Trees, largest first, models without relatives last."""
        for _, rows in groupby(self._stream(queries.TREES), key=itemgetter(0)):
            yield build_tree(Placed(*row[1:]) for row in rows)

    def explain(self, model: str) -> Explanation:
        """Its parent, every piece of evidence, the runner-up, and what its card claims."""
        model_id = self._placed(model)
        cursor = self._labelled().execute(queries.EXPLAIN, [model_id])
        row = dict(zip((column[0] for column in cursor.description or ()), cursor.fetchone() or (), strict=True))
        parent_id, runner_up_id = row.pop("parent_id"), row.pop("runner_up_id")
        evidence = tuple(Evidence(**each) for each in row.pop("evidence") or ())
        merged = tuple(MergeParent(**each) for each in row.pop("merge_parents"))
        return Explanation(
            **row,
            evidence=evidence,
            measured=self._measured(model_id, parent_id),
            runner_up_measured=self._measured(model_id, runner_up_id),
            claims=tuple(self._rows(Claimed, queries.CLAIMS, model_id)),
            merge_parents=merged,
        )

    def identify(self, weights: Path | str | Mapping[str, Any], *, limit: int = 10) -> Rows[Relative]:
        """Relatives of a model that is not in the graph, likely parent first; nothing is stored.

        `weights` is a folder, a weight file, or a state dict (names to arrays or tensors). Raises StopError when
        there is no model in it, or several.
        """
        from indexer.identify import identify
        from modelkin.query_model import sketch_weights

        return Rows(identify(self._connection, self.path, sketch_weights(weights), limit=limit))

    def models(self) -> Rows[ModelRow]:
        """The live models, by name."""
        return Rows(self.each_model())

    def edges(self) -> Rows[Edge]:
        """The current edges, by parent and child."""
        return Rows(self.each_edge())

    def runs(self) -> Rows[RunRow]:
        """Every run that wrote to the graph, oldest first."""
        return Rows(self._rows(RunRow, queries.RUNS))

    def skipped(self) -> Rows[SkippedRow]:
        """What was not ingested, and why, by run."""
        return Rows(self.each_skipped())

    def audit(self, *, every: bool = False) -> Rows[AuditRow]:
        """Declared parents beside measured ones, by model; `every` adds measured parents that no card declares."""
        return Rows(self._rows(AuditRow, queries.AUDIT_ALL if every else queries.AUDIT))

    def diff(self, before: AsOf, after: AsOf, *, every: bool = False) -> Rows[ChangedEdge]:
        """Edges with another parent or relation after one run than before, by child, and why; with `every` also those
        with another confidence or runner-up. Raises StopError as `open` does, and when `before` is the later run."""
        from modelkin.changes import changes

        return Rows(changes(self._connection, before, after, datetime.now(UTC), every=every))

    def each_model(self) -> Iterator[ModelRow]:
        """`models` one by one, for graphs that are larger than memory."""
        return (row_of(ModelRow, row) for row in self._stream(queries.MODELS))

    def each_edge(self) -> Iterator[Edge]:
        """`edges` one by one."""
        return (row_of(Edge, row) for row in self._stream(queries.EDGES))

    def each_skipped(self) -> Iterator[SkippedRow]:
        """`skipped` one by one."""
        return (row_of(SkippedRow, row) for row in self._stream(queries.SKIPPED))

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run one SQL statement and give its result as a DuckDB relation: `.df()`, `.arrow()`, `.fetchall()`.

        The tables and views are those of `store/schema`; nothing can be written to them. Raises StopError when the
        statement is wrong, or is not one statement.
        """
        return self._own.relation(query)

    def sql_rows(self, query: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """As `sql`, but the names of the columns and the rows one by one, for results that are larger than memory."""
        return self._own.rows(query)

    def to_networkx(self) -> nx.DiGraph[str]:
        """A directed graph, parent -> child, with all columns as attributes of nodes and edges."""
        from modelkin.network import to_networkx

        return to_networkx(self.each_model(), self.each_edge())

    def _path(self, model: str) -> list[int]:
        """Ids from the root of its tree to a model that is in one."""
        path = self._lines.path(find_model(self._connection, model))
        if path is None:
            raise StopError(f"{model} has been read but not compared with the others yet; run `modelkin update`")
        return path

    def _placed(self, model: str) -> int:
        """The id of a model that is in a tree."""
        return self._path(model)[-1]

    def _labelled(self) -> duckdb.DuckDBPyConnection:
        """The connection with the macro label, which may take reading every name and so waits until it is needed."""
        if not self._has_label:
            create_label(self._connection)
            self._has_label = True
        return self._connection

    def _measured(self, model_id: int, other_id: int | None) -> Measured | None:
        if other_id is None:
            return None
        pair = sorted((model_id, other_id))
        return next(self._rows(Measured, queries.PAIR, *pair), None)

    def _value(self, query: str, *values: object) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None

    def _rows(self, kind: type[T], query: str, *values: object) -> Iterator[T]:
        """Rows of a query as `kind`, whose fields are the query's columns in order."""
        for row in self._labelled().execute(query, values).fetchall():
            yield row_of(kind, row)

    def _stream(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a query in batches. On a cursor, which another query does not cut off; temporary macros are
        not seen there, so it gets its own."""
        cursor = self._connection.cursor()
        create_label(cursor)
        cursor.execute(query)
        return fetched(cursor)
