"""Models sketched side by side: a few threads, one order."""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Final

from crawl.model_sketch import SketchedModel, sketch_model
from crawl.names import escaped
from crawl.source import ModelRef, Source
from store.errors import RetryError, SkipError, StopError
from store.format import SketchFormat
from store.records import Skipped

__all__ = ["sketched"]

REMOTE_WORKERS: Final = 8
"""Threads that read a Hub: they wait for it most of the time. How many it bears at once, `crawl.pace` finds out."""


def sketched(
    source: Source, refs: Iterator[ModelRef], budget: int, form: SketchFormat, workers: int | None
) -> Generator[tuple[ModelRef, SketchedModel | Skipped]]:
    """Sketch models on a few threads (the kernels and the hashing release the GIL), in the order of the listing."""
    count = workers or (REMOTE_WORKERS if source.remote else min(8, max(2, os.cpu_count() or 2)))
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
    except StopError:
        raise
    except Exception as error:  # noqa: BLE001 one model must not end a night, whatever is in it
        # A bug of ours, told where it will be seen, and not met again before the model or modelkin changes.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        said = escaped(f"{type(error).__name__}: {error}")
        return Skipped(ref.name, ref.revision, None, "model", "bug", f"a bug of modelkin at {where}: {said}")
