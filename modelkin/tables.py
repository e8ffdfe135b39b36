"""Rows as text: which columns a reader wants, how a value looks, columns in line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from modelkin.plain import as_json, plain

__all__ = [
    "cell",
    "cells_of",
    "column_widths",
    "counted",
    "headers_of",
    "human_bytes",
    "numeric_columns",
    "preview",
    "text_table",
]

_PREVIEW = 50
_NUMBER: Final = re.compile(r"-|[-+]?[\d.,]+(e[-+]?\d+)?( [kMGT]?B)?|[-+]?inf|nan", re.ASCII)

# (heading, field) where not every field fits into a line; --json and SQL have them all.
_EDGE: Final = (("relation", "relation"), ("distance", "distance"), ("confidence", "confidence"))
_CHOSEN: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Ancestor": (("generation", "generation"), ("model", "model"), *_EDGE),
    "Descendant": (("generation", "generation"), ("model", "model"), ("parent", "parent"), *_EDGE),
    "Sibling": (("model", "model"), ("parent", "parent"), *_EDGE),
    "Edge": (
        ("parent", "parent"),
        ("child", "child"),
        ("relation", "relation"),
        ("distance", "distance"),
        ("confidence", "confidence"),
        ("runner_up", "runner_up"),
        ("its confidence", "runner_up_confidence"),
    ),
    "ChangedEdge": (
        ("change", "change"),
        ("child", "child"),
        ("parent was", "parent_before"),
        ("parent is", "parent_after"),
        ("relation was", "relation_before"),
        ("relation is", "relation_after"),
        ("why", "why"),
    ),
    "ModelRow": (
        ("name", "name"),
        ("parent", "parent"),
        ("dtype", "dtype"),
        ("parameters", "parameters"),
        ("size", "bytes_total"),
        ("read", "bytes_read"),
        ("modified", "modified_at"),
        ("architecture", "architecture"),
    ),
    "RunRow": (
        ("run", "run_id"),
        ("command", "command"),
        ("status", "status"),
        ("started", "started_at"),
        ("new", "models_new"),
        ("changed", "models_changed"),
        ("removed", "models_removed"),
        ("skipped", "models_skipped"),
        ("read", "bytes_read"),
        ("crawl s", "crawl_seconds"),
        ("update s", "update_seconds"),
        ("edges", "edges_added"),
        ("source", "source"),
    ),
    "SkippedRow": (
        ("run", "run_id"),
        ("reason", "reason"),
        ("scope", "scope"),
        ("name", "name"),
        ("path", "path"),
        ("message", "message"),
    ),
}


def headers_of(row: Any) -> list[str]:
    """Headings for rows of this kind."""
    return [heading for heading, _ in _columns(row)]


def cells_of(row: Any) -> list[str]:
    """The row's cells under `headers_of`."""
    return [
        human_bytes(value) if name.startswith("bytes_") else cell(value, digits=4)
        for name, value in ((name, getattr(row, name)) for _, name in _columns(row))
    ]


def _columns(row: Any) -> Sequence[tuple[str, str]]:
    chosen = _CHOSEN.get(type(row).__name__)
    return chosen or [(field.name, field.name) for field in fields(row)]


def cell(value: Any, digits: int | None = None) -> str:
    """One value in one line; `digits` significant ones for floats, None for all that there are."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value) if digits is None else f"{value:.{digits}g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (str, int)):
        return plain(str(value))
    text = as_json(value)
    # Strings of JSON within a list or a struct keep their quotes, a value alone does not need them.
    return plain(text[1:-1] if text.startswith('"') else text)


def human_bytes(count: float) -> str:
    """1.5 GB, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, noun: str) -> str:
    """1 tree, 2,000 trees."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def text_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines with the columns aligned, numbers to the right; nothing is cut off."""
    table = [list(headers), *map(list, rows)]
    if not headers:
        return
    widths = column_widths(table)
    numeric = numeric_columns(table)
    for row in table:
        padded = [
            " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def column_widths(table: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column is on a terminal; rows have one length."""
    return [max(map(_width, column)) for column in zip(*table, strict=True)]


def numeric_columns(table: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold numbers only, below their headings in the first row."""
    return [len(table) > 1 and all(map(_is_number, column[1:])) for column in zip(*table, strict=True)]


def preview(rows: Sequence[Any]) -> str:
    """The first rows as a table, and how many more there are."""
    if not rows:
        return "(no rows)"
    lines = list(text_table(headers_of(rows[0]), map(cells_of, rows[:_PREVIEW])))
    if len(rows) > _PREVIEW:
        lines.append(f"... and {len(rows) - _PREVIEW:,} more")
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _width(text: str) -> int:
    """Columns that a terminal needs for it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
