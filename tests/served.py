"""`modelkin schedule` in another process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.small_graph import ENVIRONMENT, with_ingest

__all__ = ["CRON", "Served", "serving"]

CRON = "0 2 * * *"


class Served:
    """A scheduler in another process, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"it ended without {text!r}:\n{self.said}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=20)[0]
        assert self.process.returncode == 0, self.said
        assert "Traceback" not in self.said


@contextmanager
def serving(
    graph: Path,
    source: Path | str,
    *more: str,
    cron: str = CRON,
    real: bool = False,
    ingest: str = "pass",
    env: Mapping[str, str] = ENVIRONMENT,
) -> Iterator[Served]:
    """Serve in another process; unless `real`, a run does `ingest` and places nothing."""
    start = ["-m", "modelkin"] if real else ["-c", with_ingest(ingest)]
    command = [sys.executable, *start, "schedule", "--cron", cron, str(source), "--graph", str(graph)]
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    ) as process:
        try:
            yield Served(process)
        finally:
            process.kill()
