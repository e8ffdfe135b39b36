"""From a source's listing to sketches in a graph: what is new is read, what failed is recorded."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from time import monotonic
from typing import Final

from crawl.model_sketch import Backbone, SketchedModel, sketch_model
from crawl.names import escaped
from crawl.source import ModelRef, SkippedModel, Source
from store.errors import RetryError, SkipError
from store.format import SketchFormat
from store.progress import Progress
from store.records import Model, Skipped
from store.writer import GraphWriter

__all__ = ["BATCH_BYTES", "BATCH_MODELS", "IngestReport", "ingest", "sketch_model"]

BATCH_MODELS: Final = 256
BATCH_BYTES: Final = 32 << 20
"""A batch is committed at this many models or bytes of samples: what a kill can lose."""
BATCH_SECONDS: Final = 20.0
"""...or when this much time has passed."""


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
    bytes: int = 0


def ingest(
    source: Source, writer: GraphWriter, *, budget: int, complete: bool, progress: Progress, workers: int | None = None
) -> IngestReport:
    """Read every model that is new or has a new revision, and store its sketches.

    `budget` is in bytes a model for remote sources (0 = everything); local files are read whole. `complete` says that
    the listing covers the source, so that models missing from it are removed. A model that cannot be read leaves a row
    in `skipped` and stops nothing. Raises StopError when the source cannot be listed or the graph cannot be written.
    """
    report = IngestReport()
    started = monotonic()
    known = writer.known()
    dates: dict[str, datetime] = {}
    found: set[str] = set()
    listed: set[str] = set()
    skipped_before: list[Skipped] = []

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
                skipped_before.append(
                    Skipped(escaped(item.name), item.revision, item.path, scope, item.reason, item.message)
                )
            elif item.name in found:
                report.skipped += 1
                skipped_before.append(
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

    progress.start("reading models", None)
    limit = budget if source.remote else 0
    # Closed here and now when anything fails: a traceback that somebody keeps must not keep threads reading.
    with closing(_sketched(source, wanted(), limit, writer.form, workers)) as results:
        for batch in _batches(results, report, known, progress):
            writer.add(batch.models, [*skipped_before, *batch.skipped], batch.backbones)
            skipped_before.clear()
    writer.add([], skipped_before, {})
    writer.redate(dates)
    if complete and not broken_off:
        gone = sorted(set(known) - found)
        writer.remove(gone)
        report.removed = len(gone)
    progress.finish()
    report.requests = source.requests
    report.seconds = monotonic() - started
    return report


def _sketched(
    source: Source, refs: Iterator[ModelRef], budget: int, form: SketchFormat, workers: int | None
) -> Generator[tuple[ModelRef, SketchedModel | Skipped]]:
    """Sketch models on a few threads (the kernels and the hashing release the GIL), in the order of the listing."""
    count = workers or min(8, max(2, os.cpu_count() or 2))
    pending: deque[tuple[ModelRef, Future[SketchedModel | Skipped]]] = deque()
    stop = Event()
    with ThreadPoolExecutor(count, thread_name_prefix="sketch") as pool:
        try:
            for ref in refs:
                pending.append((ref, pool.submit(_attempt, source, ref, budget, form, stop)))
                if len(pending) > 2 * count:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _attempt(source: Source, ref: ModelRef, budget: int, form: SketchFormat, stop: Event) -> SketchedModel | Skipped:
    try:
        return sketch_model(source, ref, budget=budget, form=form, stop=stop)
    except SkipError as error:
        return Skipped(ref.name, ref.revision, None, "model", error.reason, str(error))
    except RetryError as error:
        return Skipped(ref.name, ref.revision, None, "model", "unavailable", f"{error}; the next run tries again")
    except OSError as error:
        return Skipped(ref.name, ref.revision, None, "model", "unreadable", f"{error.strerror or error}")
    except MemoryError:
        return Skipped(ref.name, ref.revision, None, "model", "too_large", "not enough memory to read its header")


def _batches(
    results: Iterator[tuple[ModelRef, SketchedModel | Skipped]],
    report: IngestReport,
    known: dict[str, str],
    progress: Progress,
) -> Iterator[_Batch]:
    batch = _Batch()
    begun = monotonic()
    reasons: Counter[str] = Counter()
    for ref, result in results:
        if isinstance(result, Skipped):
            report.skipped += 1
            reasons[result.reason] += 1
            batch.skipped.append(result)
        else:
            model = result.model
            batch.models.append(model)
            batch.skipped += result.skipped
            batch.backbones.setdefault(model.architecture, result.backbone)
            batch.bytes += sum(len(sketch.samples) for sketch in model.sketches)
            report.new += ref.name not in known
            report.changed += ref.name in known
            report.bytes_total += model.bytes_total
            report.bytes_read += model.bytes_read
        progress.advance(1, ref.name)
        if len(batch.models) >= BATCH_MODELS or batch.bytes >= BATCH_BYTES or monotonic() - begun >= BATCH_SECONDS:
            yield batch
            batch = _Batch()
            begun = monotonic()
    if batch.models or batch.skipped:
        yield batch
