"""Figures of the steps of a bench, kept in its folder: one that was stopped goes on where it stood."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

__all__ = ["Clock", "KeptFigures"]

_EVERY_S: Final = 5.0


class KeptFigures:
    """Step -> its figures, as JSON in one file, with what is measured.

    Raises SystemExit where the file tells of something else.
    """

    def __init__(self, path: Path, measured: dict[str, Any]) -> None:
        self._path = path
        self._told: dict[str, dict[str, Any]] = {"measured": measured}
        if path.exists():
            self._told = json.loads(path.read_text())
        if self._told["measured"] != measured:
            sys.exit(f"{path} tells of {self._told['measured']}, not of {measured}: name another --folder")

    def get(self, step: str) -> dict[str, Any] | None:
        """What was kept of a step."""
        return self._told.get(step)

    def put(self, step: str, figures: dict[str, Any]) -> None:
        """Keep the figures of a step."""
        self._told[step] = figures
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self._path, json.dumps(self._told, indent=1))


class Clock:
    """Seconds that a step took in all its tries: a file tells how long the earlier ones ran before they were killed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.before = float(path.read_text()) if path is not None and path.exists() else 0.0
        """Seconds of earlier tries, to within five."""
        self._done = threading.Event()

    def __enter__(self) -> Clock:
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _count(self) -> None:
        while not self._done.wait(_EVERY_S):
            if self._path is not None:
                spent = self.before + time.perf_counter() - self._begun
                _replace(self._path, f"{spent:.1f}")


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)
