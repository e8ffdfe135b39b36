"""What is timed of a graph that grows: models added or removed, placed, published; the first answer of a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

from benchmarks.scale.hub import SOURCE, SyntheticHub, form_of
from benchmarks.scale.kept import Clock
from indexer.update import update
from modelkin.cli.options import available_cpus
from modelkin.graph import ModelGraph
from modelkin.progress import LineProgress
from store.generation import GraphFolder
from store.progress import Progress, SilentProgress
from store.writer import GraphWriter

__all__ = ["Run", "ancestors_cold_ms", "ancestors_warm_ms", "run_step"]

_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Run:
    """Wall seconds of one run."""

    opened: float
    """Copying the current generation and opening the copy."""
    wrote: float
    """Making and writing sketches of new models."""
    updated: float
    published: float
    components: int
    """Model Trees that were solved again."""
    before: float = 0.0
    """Seconds of earlier tries that were stopped, without what they wrote."""

    @property
    def total(self) -> float:
        """Seconds without `wrote`, which is the crawl's work."""
        return self.before + self.opened + self.updated + self.published


def run_step(
    graph: Path,
    models: int,
    seed: int,
    add: Sequence[int],
    remove: Sequence[int] = (),
    *,
    use_metadata: bool = True,
    resume: bool = False,
    full_size: bool = False,
    shape: str | None = None,
    spent: Path | None = None,
    progress: Progress | None = None,
) -> Run | None:
    """One run on the Hub of `models` models (or of a `shape`): add and remove some (places in the forest), update,
    publish.

    With `resume` nothing is done, and None returned, where there is a finished graph already. The file `spent` holds
    for how long earlier tries of a run that was killed have run. `progress` goes to standard error unless told where.
    """
    progress = progress or LineProgress(every=_EVERY_S)
    if resume and GraphFolder(graph).current() is not None:
        progress.note(f"{graph}: there already")
        return None
    _warm_up()
    hub = SyntheticHub(models, seed, full_size, shape)
    clock = Clock(spent)
    marks = [time.perf_counter()]
    with _writer(graph, full_size) as writer:
        marks.append(time.perf_counter())
        hub.write(writer, add, progress)
        writer.remove([hub.name(i) for i in remove])
        marks.append(time.perf_counter())
        with clock:
            report = update(
                writer, mode="default", progress=progress, use_metadata=use_metadata, processes=available_cpus()
            )
            marks.append(time.perf_counter())
            writer.publish()
        marks.append(time.perf_counter())
    opened, wrote, updated, published = (b - a for a, b in pairwise(marks))
    return Run(opened, wrote, updated, published, report.components_touched, clock.before)


def _warm_up() -> None:
    """A tiny run: what is imported late, and compiled for the first time, is not what is timed."""
    for late in ("faiss", "scipy.optimize"):
        import_module(late)
    hub = SyntheticHub(60)
    with (
        TemporaryDirectory(prefix="modelkin-bench-") as folder,
        _writer(Path(folder)) as writer,
        patch("indexer.solve.DENSE", 3),
    ):
        for some in (range(50), range(50, 60)):
            hub.write(writer, some, SilentProgress())
            update(writer, mode="default", progress=SilentProgress(), use_metadata=True)
        writer.publish()


def ancestors_warm_ms(graph: Path, names: Sequence[str]) -> float:
    """Median milliseconds of `ancestors`, of these models in turn, in a process that has answered before."""
    taken = []
    with ModelGraph.open(graph) as asked:
        asked.ancestors(names[0])
        for name in names:
            begun = time.perf_counter()
            asked.ancestors(name)
            taken.append(time.perf_counter() - begun)
    return 1000 * median(taken)


_COLD = """
import sys, time
from pathlib import Path
from modelkin.cli.options import available_cpus
from modelkin.graph import ModelGraph
begun = time.perf_counter()
with ModelGraph.open(Path(sys.argv[1])) as graph:
    graph.ancestors(sys.argv[2])
    print(1000 * (time.perf_counter() - begun))
"""


def ancestors_cold_ms(graph: Path, names: Sequence[str]) -> float:
    """Median milliseconds from import to the first answer, each in a new process, opening the graph included."""
    told = [
        subprocess.run(
            [sys.executable, "-c", _COLD, str(graph), name], check=True, capture_output=True, text=True
        ).stdout
        for name in names
    ]
    return median(map(float, told))


def _writer(graph: Path, full_size: bool = False) -> GraphWriter:
    form = form_of(full_size)
    return GraphWriter(graph, command="index", source=SOURCE, version="0", clock=lambda: datetime.now(UTC), form=form)
