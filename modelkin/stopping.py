"""Ending a run that was asked to stop: after the current model, with all that was read kept for the next run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from store.errors import StopError
from store.progress import Progress

__all__ = ["StoppableProgress", "StoppedError", "Stopping"]


class StoppedError(StopError):
    """The run ended because it was asked to."""

    def __init__(self) -> None:
        super().__init__("stopped within a run; the next one goes on from there")


class Stopping:
    """Whether this process was asked to stop; whoever waits for a Hub meanwhile waits no longer."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def check(self) -> None:
        """Raises StoppedError once the process was asked to stop."""
        if self.asked.is_set():
            raise StoppedError

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the process is asked to stop. Raises StoppedError then."""
        self.asked.wait(seconds)
        self.check()

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """While entered, the first SIGTERM asks to stop and a second one ends the process at once.

        Does nothing outside the main thread, where signals cannot be handled.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.asked.is_set():
                os._exit(128 + number)
            self.asked.set()

        before = signal.signal(signal.SIGTERM, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class StoppableProgress:
    """Raises from the next step on once the process was asked to stop: the run ends as after a kill, resumable."""

    def __init__(self, shown: Progress, stopping: Stopping) -> None:
        self._shown, self._stopping = shown, stopping

    def start(self, label: str, total: int | None) -> None:
        self._stopping.check()
        self._shown.start(label, total)

    def advance(self, n: int = 1, note: str = "") -> None:
        self._stopping.check()
        self._shown.advance(n, note)

    def finish(self) -> None:
        self._stopping.check()
        self._shown.finish()

    def note(self, text: str) -> None:
        self._stopping.check()
        self._shown.note(text)

    def close(self) -> None:
        """The run is over, however it ended."""
        self._shown.finish()
