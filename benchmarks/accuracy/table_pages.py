"""The paper's tables, laid out: for a terminal, and as a page of Markdown that holds no date and no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.table_captions import CAPTIONS, FIGURES, SETS, SOURCES
from benchmarks.accuracy.table_readings import reading
from benchmarks.accuracy.table_rows import GRAPH, Row

__all__ = ["grid", "markdown", "show", "summary"]

Grid = tuple[list[str], list[list[str]]]


def grid(rows: Sequence[Row]) -> Grid:
    """(header, cells) of the rows of one table. Its columns are the trees, where it has trees; what stands behind the
    comma of its metrics, where they have one; else the sources and what the sketch costs. Where sketches give what
    whole weights give, to the digits that are shown, one line says so for both."""
    trees = sorted({row.tree for row in rows} - {GRAPH})
    if trees:
        return _wide(rows, [*trees, GRAPH], lambda row: (row.metric, row.tree))
    if all(", " in row.metric for row in rows):
        columns = dict.fromkeys(row.metric.split(", ")[1] for row in rows)
        return _wide(rows, list(columns), lambda row: (row.metric.split(", ")[0], row.metric.split(", ")[1]))
    return _by_source(rows)


def _wide(rows: Sequence[Row], columns: Sequence[str], place: Callable[[Row], tuple[str, str]]) -> Grid:
    """`place` says what is measured and in which column."""
    cells = []
    for split, metric in dict.fromkeys((row.split, place(row)[0]) for row in rows):
        here = [row for row in rows if (row.split, place(row)[0]) == (split, metric)]
        lines = {}
        for source, says in SOURCES.items():
            found = {place(row)[1]: _value(row) for row in here if row.source == source}
            if found:
                lines[says] = [found.get(column, "") for column in columns]
        if len(lines) == len(SOURCES) and len({tuple(line) for line in lines.values()}) == 1:
            lines = {"both": next(iter(lines.values()))}
        cells += [[split, metric, says, *line] for says, line in lines.items()]
        paper = {place(row)[1]: _number(row.paper) for row in here}
        if any(paper.values()):
            cells.append([split, metric, "the paper", *(paper.get(column, "") for column in columns)])
    return ["split", "metric", "from", *columns], cells


def _by_source(rows: Sequence[Row]) -> Grid:
    cells = []
    for split, metric in dict.fromkeys((row.split, row.metric) for row in rows):
        found = {row.source: row for row in rows if (row.split, row.metric) == (split, metric)}
        both = all(source in found for source in SOURCES)
        cost = found["weights"].value - found["sketch"].value if both else None
        count = next((str(row.of) for row in found.values() if row.of is not None), "")
        values = [_value(found.get(source)) for source in SOURCES]
        cells.append([split, metric, count, *values, _number(cost, sign=True), _number(_paper(found.values()))])
    return ["split", "metric", "of", *SOURCES.values(), "cost", "paper"], cells


def _paper(rows: Iterable[Row]) -> float | None:
    return next((row.paper for row in rows if row.paper is not None), None)


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    return _number(row.value) + (f" ± {row.deviation:.2f}" if row.deviation is not None else "")


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{round(value, 2) + 0.0:{'+' if sign else ''}.2f}"


def summary(rows: Sequence[Row]) -> Grid:
    """(header, cells): a line for every number that the paper has, too."""
    return _by_source([replace(row, metric=f"{row.table}: {row.metric}") for row in rows if row.paper is not None])


def _markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *cells))


def by_table(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {name: found for name in CAPTIONS if (found := [row for row in rows if row.table == name])}


def show(rows: Sequence[Row], console: Console) -> None:
    """One table after the other, in full however narrow the terminal is."""
    for name, found in by_table(rows).items():
        header, cells = grid(found)
        table = Table(title=name, title_justify="left", box=None, header_style="bold")
        for at, column in enumerate(header):
            table.add_column(column, no_wrap=True, justify="left" if at < 2 else "right")
        for row in cells:
            table.add_row(*row)
        width = console.measure(table, options=console.options.update(max_width=1000)).maximum
        console.width = max(console.width, width)
        console.print(table)
        if line := reading(name, found):
            console.print(line, highlight=False)
        console.print()


def markdown(rows: Sequence[Row], seed: int, figures: Sequence[str]) -> str:
    """The page: every table with its caption, the figures that were drawn, and what is to be read from it."""
    splits = [split for split in SETS if any(row.split == split for row in rows)]
    parts = [
        "# The paper's tables, measured",
        f"```sh\nscripts/accuracy --mode paper --tables --seed {seed} --out docs\n```",
        "The command above wrote this page; no number in it was written by hand. The paper is *On the Origin of "
        "Llamas: Model Tree Heritage Recovery* (Horwitz, Shul, Hoshen, 2024), and the method is the paper's "
        "(`indexer/paper.py`), not modelkin's own, which `scripts/accuracy` measures. Every number is measured twice: "
        "from whole weights, and from the sketches that modelkin keeps (at most 256 KB a model). *Both* stands where "
        "they agree; *cost* is whole weights less sketches. The models are those of `scripts/vthr`, not the paper's: "
        "tiny networks, briefly trained.",
        "\n".join(f"- **{split}**: {SETS[split]}" for split in splits),
        "## Where the paper has a number",
        _markdown_table(*summary(rows)),
    ]
    for name, found in by_table(rows).items():
        header, cells = grid(found)
        parts += [f"## {name[0].upper()}{name[1:]}", CAPTIONS[name]]
        if line := reading(name, found):
            parts.append(f"**Reading.** {line}")
        if FIGURES.get(name) in figures:
            parts.append(f"![{name}]({FIGURES[name]})")
        parts.append(_markdown_table(header, cells))
    return "\n\n".join(parts) + "\n"
