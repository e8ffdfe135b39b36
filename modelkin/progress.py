"""How long work looks: a bar on a terminal, a line now and then elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from modelkin.plain import plain
from store.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["LineProgress", "RichProgress", "progress_for"]


def progress_for(stream: TextIO) -> Progress:
    """What suits the stream."""
    return RichProgress(stream) if stream.isatty() else LineProgress(stream)


class LineProgress:
    """Plain lines: when a phase starts, at most one every `every` seconds, and when it ends.

    `clock` gives seconds that only grow.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, every: float = 5.0
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._every = every
        self._label: str | None = None
        self._total: int | None = None
        self._done = 0
        self._started = self._told = 0.0

    def start(self, label: str, total: int | None) -> None:
        self.finish()
        self._label, self._total, self._done = label, total, 0
        self._started = self._told = self._clock()
        self._line(label if total is None else f"{label}: {total:,}")

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        now = self._clock()
        if self._label is None or now - self._told < self._every:
            return
        self._told = now
        of = f" of {self._total:,} ({self._share()} %)" if self._total else ""
        what = f"; {note}" if note else ""
        self._line(f"{self._label}: {self._done:,}{of}, {now - self._started:.0f} s{what}")

    def finish(self) -> None:
        if self._label is not None:
            self._line(f"{self._label}: {self._done:,} in {self._clock() - self._started:.1f} s")
            self._label = None

    def note(self, text: str) -> None:
        self._line(text)

    def _share(self) -> int:
        return 100 * self._done // (self._total or 1)

    def _line(self, text: str) -> None:
        # Nobody reads any more: no reason to stop the work.
        with suppress(OSError):
            print(plain(text), file=self._stream, flush=True)


class RichProgress:
    """A bar that goes when its phase is over; notes stay above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=stream or sys.stderr, highlight=False, markup=False)
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self.finish()
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = self._bars.add_task(plain(label), total=total, note="")
        self._bars.start()

    def advance(self, n: int = 1, note: str = "") -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=n, note=plain(note))

    def finish(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None

    def note(self, text: str) -> None:
        self._console.print(plain(text), soft_wrap=True)
