"""From a source's listing to sketches in a graph: what is new is read, what failed is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final

from crawl.frontier import Frontier
from crawl.listing import Listing
from crawl.model_sketch import Backbone, SketchedModel, sketch_model
from crawl.names import escaped
from crawl.sketching import sketched
from crawl.source import ModelRef, SkippedModel, Source
from store.errors import RetryError, StopError
from store.progress import Progress
from store.records import Model, Skipped
from store.writer import GraphWriter

__all__ = ["BATCH_BYTES", "BATCH_MODELS", "IngestReport", "ingest", "sketch_model"]

BATCH_MODELS: Final = 256
BATCH_BYTES: Final = 32 << 20
"""A batch is committed at this many models or bytes of samples: what a kill can lose."""
BATCH_SECONDS: Final = 20.0
"""...or when this much time has passed."""

PASSES: Final = 3
"""How often in a run a model of a remote source is read that failed for a reason of `PASSING`."""
PASSING: Final = frozenset({"unavailable", "changed_while_reading", "no_ranges", "bad_answer"})
MOST_UNAVAILABLE: Final = 16
"""So many in a row, and it is not the models."""


@dataclass(slots=True)
class IngestReport:
    """Counts of one ingest. `seen` is what the source listed; `unchanged` cost no reading."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    removed: int = 0
    skipped: int = 0
    unchanged: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    requests: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Batch:
    models: list[Model] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    backbones: dict[str, Backbone] = field(default_factory=dict)
    outcomes: list[tuple[ModelRef, str | None]] = field(default_factory=list)
    bytes: int = 0
    begun: float = field(default_factory=monotonic)

    def is_full(self) -> bool:
        return (
            len(self.models) >= BATCH_MODELS or self.bytes >= BATCH_BYTES or monotonic() - self.begun >= BATCH_SECONDS
        )


def ingest(
    source: Source, writer: GraphWriter, *, budget: int, complete: bool, progress: Progress, workers: int | None = None
) -> IngestReport:
    """Read every model that is new or has a new revision, and store its sketches.

    `budget` is in bytes a model for remote sources (0 = everything); local files are read whole. `complete` says that
    the listing covers the source, so that models missing from it are removed. A model that cannot be read leaves a row
    in `skipped` and stops nothing; of a remote source it is tried again at the end. Raises StopError when the source
    cannot be listed or the graph cannot be written; what was read until then is kept.
    """
    started = monotonic()
    known = writer.known()
    report = IngestReport()
    reading = _Reading(source, writer, report, known, budget, progress, workers)
    if isinstance(source, Listing):
        lost = [name for name, revision in known.items() if not revision]
        frontier = Frontier(source, writer, source.label, complete=complete, lost=lost, progress=progress)
        frontier.refresh()
        report.seen, report.unchanged = frontier.counts()
        report.seen += len(frontier.skipped)
        report.skipped += len(frontier.skipped)
        writer.skip([_skipped(item, "model") for item in frontier.skipped.values()])
        report.removed = frontier.removed
        reading.frontier = frontier
        reading.read(frontier.queue())
    else:
        _ingest_all(source, writer, reading, complete, progress)
    progress.finish()
    report.requests = source.requests
    report.seconds = monotonic() - started
    return report


def _ingest_all(source: Source, writer: GraphWriter, reading: _Reading, complete: bool, progress: Progress) -> None:
    """Follow a list from its beginning to its end, and read on the way."""
    report, known = reading.report, reading.known
    dates: dict[str, datetime] = {}
    found: set[str] = set()
    listed: set[str] = set()
    broken_off: list[RetryError] = []

    def listing() -> Iterator[ModelRef | SkippedModel]:
        try:
            yield from source.models()
        except RetryError as error:
            # What was listed is read; what was not is not gone.
            broken_off.append(error)
            progress.note(f"the listing broke off after {report.seen} models ({error}); the next run lists again")

    def wanted() -> Iterator[ModelRef]:
        for item in listing():
            report.seen += 1
            if isinstance(item, SkippedModel):
                # A link that is not followed, say, in the folder of a model that is read.
                scope = "file" if item.name in listed else "model"
                report.skipped += scope == "model"
                # What is there but cannot be read today is not gone.
                found.add(item.name)
                reading.batch.skipped.append(_skipped(item, scope))
            elif item.name in found:
                report.skipped += 1
                reading.batch.skipped.append(
                    Skipped(item.name, item.revision, None, "model", "duplicate_name", f"{item.name}: listed twice")
                )
            else:
                found.add(item.name)
                listed.add(item.name)
                if known.get(item.name) == item.revision:
                    report.unchanged += 1
                    if item.created_at is not None:
                        dates[item.name] = item.created_at
                    progress.advance(1, item.name)
                else:
                    yield item

    reading.read(wanted())
    writer.redate(dates)
    if complete and not broken_off:
        report.removed = len(writer.remove(sorted(set(known) - found)))


def _skipped(item: SkippedModel, scope: str) -> Skipped:
    return Skipped(escaped(item.name), item.revision, item.path, scope, item.reason, item.message)


class _Reading:
    """Models on their way into the graph."""

    def __init__(
        self,
        source: Source,
        writer: GraphWriter,
        report: IngestReport,
        known: dict[str, str],
        budget: int,
        progress: Progress,
        workers: int | None,
    ) -> None:
        self.report, self.known = report, known
        self.batch = _Batch()
        self.frontier: Frontier | None = None
        self._source, self._writer, self._progress = source, writer, progress
        self._budget = budget if source.remote else 0
        self._workers = workers
        self._unavailable = 0

    def read(self, refs: Iterable[ModelRef]) -> None:
        """Read them all and store what came of it."""
        self._progress.start("reading models", None)
        passes = PASSES if self._source.remote else 1
        for left in reversed(range(passes)):
            again: list[ModelRef] = []
            try:
                self._pass(refs, again if left else None)
            except StopError:
                self._store()
                raise
            self._store()
            if not again:
                return
            refs = again
            self._progress.start("reading again what failed", len(again))

    def _pass(self, refs: Iterable[ModelRef], again: list[ModelRef] | None) -> None:
        results = sketched(self._source, iter(refs), self._budget, self._writer.form, self._workers)
        # Closed here and now when anything fails: a traceback that somebody keeps must not keep threads reading.
        with closing(results):
            for ref, result in results:
                if self._is_to_wait(result, again):
                    assert again is not None
                    again.append(ref)
                else:
                    self._take(ref, result)
                self._progress.advance(1, ref.name)
                if self.batch.is_full():
                    self._store()
                if self._unavailable >= MOST_UNAVAILABLE:
                    self._progress.note(
                        f"{self._unavailable} models in a row could not be fetched: the next run reads the rest"
                    )
                    for each in again or ():
                        self._take(each, _unavailable(each))
                    if again is not None:
                        again.clear()
                    return

    def _is_to_wait(self, result: SketchedModel | Skipped, again: list[ModelRef] | None) -> bool:
        reason = result.reason if isinstance(result, Skipped) else None
        self._unavailable = self._unavailable + 1 if reason == "unavailable" else 0
        return again is not None and reason in PASSING

    def _take(self, ref: ModelRef, result: SketchedModel | Skipped) -> None:
        batch, report = self.batch, self.report
        if isinstance(result, Skipped):
            report.skipped += 1
            batch.skipped.append(result)
            if result.reason not in PASSING:
                batch.outcomes.append((ref, result.reason))
            return
        model = result.model
        batch.models.append(model)
        batch.skipped += result.skipped
        batch.backbones.setdefault(model.architecture, result.backbone)
        batch.bytes += sum(len(sketch.samples) for sketch in model.sketches)
        batch.outcomes.append((ref, None))
        report.new += ref.name not in self.known
        report.changed += ref.name in self.known
        report.bytes_total += model.bytes_total
        report.bytes_read += model.bytes_read

    def _store(self) -> None:
        batch, self.batch = self.batch, _Batch()
        if batch.models or batch.skipped:
            self._writer.add(batch.models, batch.skipped, batch.backbones)
        if self.frontier is not None:
            self.frontier.conclude(batch.outcomes)


def _unavailable(ref: ModelRef) -> Skipped:
    message = f"{ref.name}: it could not be fetched, nor those after it; the next run tries again"
    return Skipped(ref.name, ref.revision, None, "model", "unavailable", message)
