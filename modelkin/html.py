"""Answers in a notebook. Every text is escaped: names of models come from strangers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from modelkin.plain import plain
from modelkin.tables import cells_of, headers_of

__all__ = ["preformatted", "table"]

_PREVIEW = 100


def table(rows: Sequence[Any]) -> str:
    """An HTML table of the first rows, and how many more there are."""
    if not rows:
        return "<p>(no rows)</p>"
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headers_of(rows[0]))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in cells_of(row)) + "</tr>" for row in rows[:_PREVIEW]
    )
    more = f"<p>... and {len(rows) - _PREVIEW:,} more</p>" if len(rows) > _PREVIEW else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def preformatted(text: str) -> str:
    """Text in lines, as a drawn tree is."""
    return f"<pre>{escape(plain(text, lines=True))}</pre>"
