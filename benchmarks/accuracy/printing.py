"""Lines of figures, for machines and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

__all__ = ["rounded", "show", "show_pools", "show_table"]

DIGITS: Final = 4

COLUMNS: Final = (
    ("models", "models"),
    ("edges", "truth_edges"),
    ("directed", "directed_accuracy"),
    ("undirected", "undirected_accuracy"),
    ("direction", "direction_accuracy"),
    ("precision", "precision"),
    ("ARI", "ari"),
    ("ECE", "ece"),
    ("unplaced", "unplaced"),
    ("relation", "relation_accuracy"),
    ("stage", "stage_accuracy"),
    ("absent", "absent_parents"),
    ("inferred", "inferred"),
    ("precision", "inferred_precision"),
    ("recall", "inferred_recall"),
    ("s", "seconds"),
)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its fractions cut to DIGITS digits."""
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()}


def show(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One table; where several modes were run, their lines for one split stand together."""
    table = _table(("set", "split", "mode"), [name for name, _ in COLUMNS])
    last = None
    for row in rows:
        here = (row["set"], row["split"])
        if last is not None and here != last and len({r["mode"] for r in rows}) > 1:
            table.add_row()
        table.add_row(*(here if here != last else ("", "")), row["mode"], *(_cell(row[key]) for _, key in COLUMNS))
        last = here
    _print(table, console)
    for mode, edges, right in _totals(rows):
        console.print(f"{mode}: {right} of {edges} edges, direction included ({right / edges:.3f})", highlight=False)


def show_pools(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Calibration, a line a pool."""
    keys = ("edges", "mean_confidence", "right", "ece", "brier")
    table = _table(("pool",), [key.replace("_", " ") for key in keys])
    for row in rows:
        table.add_row(row["pool"], *(_cell(row[key]) for key in keys))
    _print(table, console)


def show_table(
    names: Sequence[str], figures: Sequence[str], lines: Sequence[Sequence[object]], console: Console
) -> None:
    """Lines under the columns `names`, which are words, and `figures`, which are numbers; nothing without lines."""
    if lines:
        table = _table(names, figures)
        for line in lines:
            table.add_row(*map(str, line))
        _print(table, console)


def _table(names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def _print(table: Table, console: Console) -> None:
    """In full, however narrow the terminal is: a figure that was cut off would be another figure."""
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=1000)).maximum)
    console.print(table)


def _totals(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """(mode, truth edges, right ones) over whole collections: a tree alone is in its graph already."""
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        if "/" not in row["split"] and row["truth_edges"]:
            edges, right = sums.get(row["mode"], (0, 0))
            more = round(row["directed_accuracy"] * row["truth_edges"])
            sums[row["mode"]] = (edges + row["truth_edges"], right + more)
    return [(mode, *both) for mode, both in sums.items()]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
