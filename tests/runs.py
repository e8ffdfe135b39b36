"""Runs that write to a graph, and what the graph then says."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from crawl.folder import FolderSource
from crawl.ingest import IngestReport, ingest
from crawl.source import Source
from indexer.update import update
from store.generation import open_reader
from store.progress import Progress, SilentProgress
from store.writer import GraphWriter

__all__ = [
    "GOOD",
    "Placed",
    "answers",
    "change_setting",
    "check_pair",
    "index",
    "inferred",
    "leftovers",
    "related",
    "skipped",
    "writer",
]

GOOD = ("good/root", "good/child-0")
"""What `tests.weights.family(source, "good", ...)` writes: beside all that is bad there are two that are related."""


class Placed(NamedTuple):
    """A model and its place, in names: ids and runs depend on the history."""

    parent: str | None
    relation: str | None
    distance: float | None
    confidence: float | None
    runner_up: str | None
    runner_up_confidence: float | None
    stage: str | None
    evidence: tuple[tuple[str | float, ...], ...]
    path: tuple[str, ...]
    members: int
    content_hash: str
    merged: tuple[tuple[str, float, str], ...]
    """(parent, coefficient, method) of a merge, by name."""


def writer(graph: Path, source: Source) -> GraphWriter:
    """A run of `index`, not yet entered."""
    return GraphWriter(graph, command="index", source=source.label, version="0", clock=lambda: datetime.now(UTC))


def index(
    source: Path | Source,
    graph: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    use_metadata: bool | None = None,
    infer: bool = True,
) -> IngestReport:
    """Ingest, update, publish."""
    source = FolderSource(source) if isinstance(source, Path) else source
    progress = progress or SilentProgress()
    with writer(graph, source) as run:
        report = ingest(source, run, budget=0, complete=True, progress=progress, workers=workers)
        update(run, mode="default", progress=progress, use_metadata=use_metadata, infer=infer)
        run.publish()
    return report


def answers(graph: Path) -> dict[str, Placed]:
    """Every live model of the current generation and where it belongs."""
    with open_reader(graph) as connection:
        names = dict(connection.execute("select node_id, name from nodes").fetchall())
        rows = connection.execute(
            """select m.name, p.name, e.relation, e.distance, e.confidence, u.name, e.runner_up_confidence, c.stage,
                   e.evidence, c.path, c.members, m.content_hash
               from live_models m
               left join components c using (model_id)
               left join current_edges e on e.child_id = m.model_id
               left join nodes p on p.node_id = e.parent_id
               left join nodes u on u.node_id = e.runner_up_id"""
        ).fetchall()
        merges: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
        for child, parent, coefficient, method in connection.execute(
            "select child_id, parent_id, coefficient, method from current_merges"
        ).fetchall():
            merges[names[child]].append((names[parent], coefficient, method))
        if rows:
            sketched = connection.sql("select distinct name from sketches join live_models using (model_id)").fetchall()
            assert len(sketched) == len(rows), "a live model has sketches that the view reaches"
    return {
        name: Placed._make(
            [
                *edge,
                tuple(tuple(each.values()) for each in evidence or ()),
                tuple(names[at] for at in path or []),
                members,
                content,
                tuple(sorted(merges[name])),
            ]
        )
        for name, *edge, evidence, path, members, content in rows
    }


def inferred(graph: Path) -> dict[str, tuple[Any, ...]]:
    """Every inferred ancestor of the current generation: parent, distance to it, confidence, path and children."""
    with open_reader(graph) as connection:
        names = dict(connection.execute("select node_id, name from nodes").fetchall())
        rows = connection.execute(
            """select i.name, e.parent_id, e.distance, e.confidence, c.path, i.children, i.architecture
               from inferred i join components c on c.model_id = i.inferred_id
               left join current_edges e on e.child_id = i.inferred_id
               where i.valid_to_run is null"""
        ).fetchall()
        current = connection.execute("select count(*) from inferred where valid_to_run is null").fetchone()
        placed = connection.execute("select count(*) from components where model_id < 0").fetchone()
    assert current == placed == (len(rows),), "each has one place, and none is left behind"
    return {
        name: (names.get(parent), *rest, tuple(names[at] for at in path), children, architecture)
        for name, parent, *rest, path, children, architecture in rows
    }


def related(graph: Path, a: str, b: str) -> bool:
    """Is one of the two the parent of the other?"""
    found = answers(graph)
    return found[a].parent == b or found[b].parent == a


def skipped(graph: Path) -> list[dict[str, Any]]:
    """The rows of the last run in table `skipped`."""
    with open_reader(graph) as connection:
        table = connection.sql("select * from skipped where run_id = (select max(run_id) from runs) order by all")
        return list(table.to_arrow_table().to_pylist())


def leftovers(graph: Path) -> list[str]:
    """Files that a finished run must not leave behind."""
    known = (
        "CURRENT",
        "LOCK",
        "graph-*.duckdb",
        "sketches/arch=*/*.parquet",
        "shortlist/*.vectors",
        "answers/models.sqlite*",
        "answers/*.record",
    )
    kept = {path for pattern in known for path in graph.glob(pattern)}
    return sorted(str(path.relative_to(graph)) for path in graph.rglob("*") if path.is_file() and path not in kept)


def check_pair(
    source: Path, graph: Path, rows: int = 1, live: frozenset[str] = frozenset(), first: Source | None = None
) -> dict[str, Any]:
    """Index a source that holds GOOD, `live`, and what is told in `rows` rows of `skipped`; look; index again.

    The first run reads from `first` where given. Returns the first of the rows, {} when there is none.
    """
    report = index(first or source, graph, workers=1)
    found = answers(graph)
    assert set(found) == {*GOOD, *live}
    assert related(graph, *GOOD)
    told = skipped(graph)
    assert len(told) == rows, told
    assert report.skipped == sum(row["scope"] == "model" for row in told)

    again = index(source, graph)
    assert (again.new, again.unchanged) == (0, len(found))
    assert answers(graph) == found
    assert leftovers(graph) == []
    return told[0] if told else {}


def change_setting(database: Path, key: str, value: str) -> None:
    """Change a row of `settings` in a database file."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("update settings set value = ? where key = ?", [value, key])
