"""How long work looks on a terminal and elsewhere."""

from __future__ import annotations

import os
from io import StringIO

from modelkin.progress import LineProgress, RichProgress, progress_for


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_progress_are_few() -> None:
    stream, clock = StringIO(), Clock()
    progress = LineProgress(stream, clock, every=5)
    progress.start("reading", 1000)
    for at in range(1000):
        clock.now = at / 50
        progress.advance(1, f"m{at}\x1b[2J")
    progress.note("a note")
    progress.finish()
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "reading: 1,000",
        "reading: 251 of 1,000 (25 %), 5 s; m250\\x1b[2J",
        "reading: 501 of 1,000 (50 %), 10 s; m500\\x1b[2J",
        "reading: 751 of 1,000 (75 %), 15 s; m750\\x1b[2J",
        "a note",
        "reading: 1,000 in 20.0 s",
    ]


def test_progress_without_a_total_and_without_a_reader() -> None:
    stream, clock = StringIO(), Clock()
    progress = LineProgress(stream, clock, every=5)
    progress.start("listing", None)
    clock.now = 6
    progress.advance(3)
    assert stream.getvalue().splitlines() == ["listing", "listing: 3, 6 s"]
    closed = os.fdopen(os.open(os.devnull, os.O_RDONLY), "r")
    LineProgress(closed).note("nobody hears")
    closed.close()


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = progress_for(stream)
    assert isinstance(progress, RichProgress)
    progress.advance()
    progress.start("reading [bold]x", 2)
    progress.advance(1, "m\x1b[2J")
    progress.note("a note [red]")
    progress.finish()
    text = stream.getvalue()
    assert "reading [bold]x" in text
    assert "a note [red]" in text
    assert "\x1b[2J" not in text
