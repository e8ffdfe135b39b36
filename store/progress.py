"""What long work tells whoever watches it: an argument, so that crawl and indexer know nothing of terminals."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "SilentProgress"]


class Progress(Protocol):
    """One phase at a time: `start`, any number of `advance`, `finish`; `note` at any time.

    Texts may hold names from outside: whoever shows them escapes them. Called from one thread at a time.
    Each of these may raise, to stop the work: callers leave things as after a kill.
    """

    def start(self, label: str, total: int | None) -> None:
        """Begin a phase of `total` steps; None when nobody knows how many. Ends the phase before."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` steps are done; `note` says what on (a model's name), for as long as the next one takes."""

    def finish(self) -> None:
        """The phase is over. Without a phase this does nothing."""

    def note(self, text: str) -> None:
        """Something that the reader should see and keep, one line."""


class SilentProgress:
    """Tells nobody."""

    def start(self, label: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
