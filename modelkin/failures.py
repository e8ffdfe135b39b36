"""Which exceptions are the world's doing and are told in a line, where all others are bugs and keep their traceback."""

from __future__ import annotations

import sys

from store.errors import ModelkinError

__all__ = ["expected_errors", "message_of"]


def expected_errors() -> tuple[type[Exception], ...]:
    """What a command may fail with: our own errors, the operating system's, and DuckDB's if it is loaded."""
    duckdb = sys.modules.get("duckdb")
    return (ModelkinError, OSError, *([duckdb.Error] if duckdb else []))


def message_of(error: Exception) -> str:
    """What to tell about one of `expected_errors`."""
    return str(error).strip() or type(error).__name__
