"""One number of the paper's tables, as measured here, with what it is the number of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["GRAPH", "Row", "as_json"]

GRAPH: Final = "graph"
"""In place of a tree: the whole Model Graph, or all trees together."""
DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """`value` is a share, a correlation or a count; `of` is how many things it is taken over."""

    table: str
    split: str
    tree: str
    source: str
    metric: str
    value: float
    deviation: float | None = None
    """Standard deviation, where the value is a mean over samples."""
    of: int | None = None
    paper: float | None = None
    """What the paper has for it."""


def as_json(row: Row) -> dict[str, Any]:
    """The row without what it has not, fractions cut to DIGITS digits."""
    named = {name: getattr(row, name) for name in Row.__slots__}
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in named.items()
        if value is not None
    }
