"""The paper's tables, laid out: for a terminal, and as a page of Markdown that holds no date and no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.table_rows import GRAPH, Row

__all__ = ["CAPTIONS", "grid", "markdown", "show"]

CAPTIONS: Final[Mapping[str, str]] = {
    "table 1": (
        "Accuracy of MoTHer Recovery, tree by tree and over the whole Model Graph. *Directed* is the paper's metric; "
        "*undirected* counts an edge the wrong way round as well. Given, as in the paper: the distance (equation 1 or "
        "2), the stage, and for the graph the number of clusters."
    ),
    "l_FT for LoRA": "The same for LoRA with equation 1 (over the tuned value layers) in place of equation 2.",
    "lambda": (
        "Accuracy over the Model Graph against the constant c of lambda = c mean(D), which the paper does not give; "
        "0.3 is that of the authors' code and of all other tables here. *Undirected* at a small c is what the "
        "distance alone can do. *l_lora then l_2*: pairs of one rank are told apart by L2, for a sketch sees no rank "
        "above 64."
    ),
    "direction": (
        "Share of true edges on which the directional weight score (equation 3) falls from parent to child, as it "
        "should in specialization. The score is exact in a sketch."
    ),
    "table 4": (
        "Smaller trees: the root and a random choice of the rest, ten times a size and tree. The true parent of a "
        "model is its nearest ancestor that was chosen."
    ),
    "similar models": "Children of one parent by one recipe, with other seeds.",
    "triplets": (
        "Section 5.1: random graphs of three models, solved by the paper's protocol without being told which of the "
        "four kinds they are: grandparent, parent, child (GPC); parent and two children (PC2); parent, child, "
        "stranger (PCS); three strangers (S3). *Edges placed* leaves directions aside. The threshold for strangers is "
        "half of a layer's range (equation 1) or full rank (2)."
    ),
    "figure 2": (
        "Correlation of weight distance and edge distance: over all pairs of a tree, and over the mean weight "
        "distance at each edge distance. Mean over trees, and standard deviation."
    ),
    "figure 3": "Share of steps between checkpoints in which the directional weight score moves the paper's way.",
    "figure 7": "Share of models that are clustered rightly, over 20 random graphs a size with models of every tree.",
    "figure 14": (
        "Directional scores along fine-tuning, dense layers: share of steps that go the way most steps go over all "
        "trees. A score is of use where all trees go one way."
    ),
    "figure 19": "The same for the kurtosis of each type of layer.",
}
FIGURES: Final = {name: f"paper-{name.replace('ure ', '')}.svg" for name in CAPTIONS if name.startswith("figure")}
SOURCES: Final = {"weights": "whole weights", "sketch": "sketches"}

Grid = tuple[list[str], list[list[str]]]


def grid(rows: Sequence[Row]) -> Grid:
    """(header, cells) of the rows of one table. Its columns are the trees, where it has trees; what stands behind the
    comma of its metrics, where they have one; else the sources and what the sketch costs."""
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
        for source, says in SOURCES.items():
            found = {place(row)[1]: _value(row) for row in here if row.source == source}
            if found:
                cells.append([split, metric, says, *(found.get(column, "") for column in columns)])
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
        console.print()


def markdown(rows: Sequence[Row], seed: int, figures: Sequence[str]) -> str:
    """The page: every table with its caption and the figures that were drawn."""
    parts = [
        "# The paper's tables, measured",
        f"Written by `scripts/accuracy --mode paper --tables --seed {seed} --out docs`. Every number is measured "
        "twice: from whole weights, and from the sketches that modelkin keeps (at most 256 KB a model). *Cost* is the "
        "difference. The models are our small VTHR (`scripts/vthr`), not the paper's.",
    ]
    for name, found in by_table(rows).items():
        header, cells = grid(found)
        parts += [f"## {name[0].upper()}{name[1:]}", CAPTIONS[name]]
        if FIGURES.get(name) in figures:
            parts.append(f"![{name}]({FIGURES[name]})")
        lines = [header, ["---"] * len(header), *cells]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"
