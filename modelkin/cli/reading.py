"""How commands open a graph that they only read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelkin.cli.output import note

if TYPE_CHECKING:
    from modelkin.graph import ModelGraph

__all__ = ["reading"]


@contextmanager
def reading(graph: Path, as_of: str | None = None) -> Iterator[ModelGraph]:
    """The graph, open; Ctrl-C ends the process at once while it is.

    DuckDB looks for Ctrl-C between tasks only, and one task may be a whole query. There is nothing to lose here.
    Which run `as_of` means is said on standard error.
    """
    from modelkin.graph import ModelGraph

    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with ModelGraph.open(graph, as_of=as_of) as opened:
            if opened.as_of is not None:
                note(f"as of run {opened.as_of.run_id}, finished {opened.as_of.finished_at:%Y-%m-%d %H:%M:%S} UTC")
            yield opened
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
