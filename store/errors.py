"""One error tree, split by what the caller can do: try again, skip and record, or stop.

Every message names its subject, what was expected and what came, and where it helps, what to do next.
"""

from __future__ import annotations

__all__ = ["ModelkinError", "RetryError", "SkipError", "StopError"]


class ModelkinError(Exception):
    """Root of everything that modelkin raises on purpose."""


class RetryError(ModelkinError):
    """The same call may succeed later (a time-out, a rate limit, a connection reset).

    `wait_s` is what the other side asked us to wait, in seconds, or None when it said nothing.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class SkipError(ModelkinError):
    """This file or model cannot be ingested, now or later, as it stands; the run records it and goes on.

    `reason` is one short snake_case word for grouping (a row of table `skipped`); the message is for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StopError(ModelkinError):
    """The command cannot go on: the graph is locked, the disk is full, the model is unknown."""
