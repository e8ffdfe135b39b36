"""One run: read what is new in a source, place it in its trees, publish the next generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import modelkin
from store.errors import StopError
from store.generation import GraphFolder
from store.progress import Progress
from store.writer import GraphWriter

if TYPE_CHECKING:
    from crawl.ingest import IngestReport
    from crawl.source import Source
    from indexer.update import UpdateReport

__all__ = ["Mode", "RunReport", "run"]

Mode = Literal["default", "paper"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did, and what the graph holds now. The counts are the columns of table `runs`."""

    run_id: int
    command: str
    source: str | None
    resumed: bool
    generation: int
    graph: str
    models: int
    trees: int
    alone: int
    """Models without relatives."""
    edges: int
    inferred: int
    """Inferred ancestors, which are no models."""
    models_seen: int
    models_new: int
    models_changed: int
    models_removed: int
    models_skipped: int
    skipped_reasons: dict[str, int]
    """Rows of table `skipped` by reason; a model may have several."""
    bytes_total: int
    bytes_read: int
    requests: int
    components_touched: int
    edges_added: int
    edges_closed: int
    shortlist_recall: float | None
    crawl_seconds: float
    update_seconds: float
    seconds: float


def run(
    path: Path | str,
    source: Source | None,
    *,
    command: str,
    mode: Mode | None,
    budget: int,
    complete: bool,
    progress: Progress,
    clock: Callable[[], datetime],
    use_metadata: bool | None = None,
    infer: bool = True,
    processes: int = 1,
) -> RunReport:
    """Ingest from `source` unless it is None, update the trees unless `mode` is None, and publish.

    `budget` is in bytes a model (0 = everything), `complete` says that the listing covers the whole source, so that
    models missing from it are removed. `use_metadata` lets upload dates and declared bases weigh in, for the whole
    graph; None means yes for a Hub, no for another source, and without a source what it was last. `infer` says that
    trees may hold ancestors that no model is; `processes` recover them side by side. Raises StopError when
    another process writes to the graph, when the source cannot be read or when the disk is full; what was done until
    then is kept for the next run.
    """
    folder = GraphFolder(path)
    if source is None and folder.current() is None and not folder.building.exists():
        raise StopError(f"{folder.path}: no graph here; make one with `modelkin index SOURCE --graph {folder.path}`")
    started = monotonic()
    label = source.label if source else None
    with GraphWriter(path, command=command, source=label, version=modelkin.__version__, clock=clock) as writer:
        if writer.resumed:
            progress.note(f"going on from the interrupted run {writer.run_id - 1}")
        if source is not None:
            _ingest(writer, source, budget, complete, progress)
        if mode is not None:
            if use_metadata is None and source is not None:
                use_metadata = source.remote
            _update(writer, mode, use_metadata, infer, processes, progress)
        counts = _counts(writer)
        generation = writer.publish()
    return RunReport(
        command=command,
        source=label,
        resumed=writer.resumed,
        generation=generation,
        graph=str(folder.path),
        seconds=monotonic() - started,
        **counts,
    )


def _ingest(writer: GraphWriter, source: Source, budget: int, complete: bool, progress: Progress) -> None:
    from crawl.ingest import ingest

    report: IngestReport = ingest(source, writer, budget=budget, complete=complete, progress=progress)
    progress.finish()
    writer.finish_run(
        models_seen=report.seen,
        models_new=report.new,
        models_changed=report.changed,
        models_removed=report.removed,
        models_skipped=report.skipped,
        bytes_total=report.bytes_total,
        bytes_read=report.bytes_read,
        requests=report.requests,
        crawl_seconds=report.seconds,
    )


def _update(
    writer: GraphWriter, mode: Mode, use_metadata: bool | None, infer: bool, processes: int, progress: Progress
) -> None:
    from indexer.update import update

    report: UpdateReport = update(
        writer, mode=mode, progress=progress, use_metadata=use_metadata, infer=infer, processes=processes
    )
    progress.finish()
    writer.finish_run(
        mode=mode,
        components_touched=report.components_touched,
        edges_added=report.edges_added,
        edges_closed=report.edges_closed,
        shortlist_recall=report.shortlist_recall,
        update_seconds=report.seconds,
    )


_COUNTS = """
    select
        run_id, models_seen, models_new, models_changed, models_removed, models_skipped,
        bytes_total, bytes_read, requests, components_touched, edges_added, edges_closed, shortlist_recall,
        crawl_seconds, update_seconds,
        (select count(*) from live_models) as models,
        (select count(*) from components where depth = 0 and members > 1) as trees,
        (select count(*) from components where depth = 0 and members = 1) as alone,
        (select count(*) from current_edges) as edges,
        (select count(*) from inferred where valid_to_run is null) as inferred
    from runs
    where run_id = ?
"""


def _counts(writer: GraphWriter) -> dict[str, Any]:
    cursor = writer.connection.execute(_COUNTS, [writer.run_id])
    names = [column[0] for column in cursor.description or ()]
    row = cursor.fetchone()
    assert row is not None
    reasons = writer.connection.execute(
        "select reason, count(*) from skipped where run_id = ? group by reason order by 2 desc, 1",
        [writer.run_id],
    ).fetchall()
    return {**dict(zip(names, row, strict=True)), "skipped_reasons": dict(reasons)}
