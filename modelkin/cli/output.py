"""Answers on standard output: for people on a terminal, for pipes, and as JSON."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from modelkin.plain import as_json, plain
from modelkin.tables import cells_of, column_widths, headers_of, numeric_columns, text_table

__all__ = ["ascii_only", "note", "print_json", "print_json_lines", "print_lines", "print_rows", "print_table"]

_MOST_WITH_RICH = 500
_LEAST_FITTED = 20


def print_json(document: Any) -> None:
    """One JSON document. Flushed: a schedule that writes to a log says what it did when it did it."""
    print(as_json(document), flush=True)


def print_json_lines(rows: Iterable[Any]) -> None:
    """One JSON object a line."""
    for row in rows:
        print(as_json(row))


def print_lines(lines: Iterable[str]) -> None:
    """Lines that were drawn before."""
    for line in lines:
        print(plain(line, lines=True))
    sys.stdout.flush()


def print_rows(rows: Sequence[Any], empty: str) -> None:
    """Rows of one kind as a table; `empty` goes to standard error when there are none."""
    if rows:
        print_table(headers_of(rows[0]), [cells_of(row) for row in rows])
    else:
        note(empty)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: its widest column fitted to the terminal, or aligned and whole when piped."""
    widths = column_widths([headers, *rows]) if headers else []
    fitted = _columns() - sum(widths) + max(widths, default=0) - 2 * len(widths)
    if not sys.stdout.isatty() or len(rows) > _MOST_WITH_RICH or fitted < _LEAST_FITTED:
        print_lines(text_table(headers, rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    widest = widths.index(max(widths))
    for at, numeric in enumerate(numeric_columns([headers, *rows])):
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(headers[at]), justify=justify, overflow="fold", no_wrap=at != widest)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _columns() -> int:
    return shutil.get_terminal_size().columns


def note(text: str) -> None:
    """A line for people, out of the way of the answer."""
    print(plain(text), file=sys.stderr, flush=True)


def ascii_only() -> bool:
    """True when standard output cannot show box characters."""
    try:
        "├└│─○".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
