"""A line for each table: what the paper has, what is seen here, and what the sketch costs. All numbers come from the
rows, so that a line is never older than its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.accuracy.table_captions import MONOTONIC
from benchmarks.accuracy.table_rows import GRAPH, Row

__all__ = ["reading"]

Rows = Sequence[Row]
ROOT_BY_LOT: Final = {"GPC": 1 / 3, "PC2": 1 / 3, "PCS": 1 / 2}


def reading(name: str, rows: Rows) -> str:
    """The line for one table's rows; "" where they do not allow one."""
    return READINGS[name](rows)


def _two(weights: float, sketch: float | None) -> str:
    """A number from whole weights, and what sketches make of it where that differs."""
    first, second = f"{weights:.2f}", "" if sketch is None else f"{sketch:.2f}"
    return first + (f" (sketches {second})" if second not in ("", first) else "")


def _pairs(rows: Rows) -> Iterator[tuple[Row, str]]:
    """Every row from whole weights, with its number and that from sketches in words."""
    sketches = {(row.split, row.tree, row.metric): row.value for row in rows if row.source == "sketch"}
    for row in rows:
        if row.source == "weights":
            yield row, _two(row.value, sketches.get((row.split, row.tree, row.metric)))


def _sentence(head: str, parts: Iterable[str]) -> str:
    said = "; ".join(parts)
    return f"{head}: {said}." if said else ""


def _beside_the_paper(rows: Rows, called: Callable[[Row], str]) -> str:
    return _sentence(
        "Here and in the paper",
        (f"{called(row)} {says}, the paper {row.paper:.2f}" for row, says in _pairs(rows) if row.paper is not None),
    )


def _table_1(rows: Rows) -> str:
    undirected = [
        (row, says) for row, says in _pairs(rows) if row.tree == GRAPH and row.metric.startswith("undirected")
    ]
    known = {row.split for row in rows if row.paper is not None}
    aside = _sentence("Directions aside", (f"{row.split} {says}" for row, says in undirected if row.split in known))
    return f"{_beside_the_paper(rows, lambda row: row.split)} {aside}".strip()


def _constants(rows: Rows) -> str:
    """For each set, by its own distance, the largest of the best constants."""
    parts = []
    for split in dict.fromkeys(row.split for row in rows):
        own = next(row.metric for row in rows if row.split == split).split(", ")[0]
        mine = [(row, says) for row, says in _pairs(rows) if row.split == split and row.metric.startswith(f"{own}, ")]
        if mine:
            row, says = max(reversed(mine), key=lambda pair: pair[0].value)
            parts.append(f"{split} {says} at {row.metric.split(', ')[1]}")
    return _sentence("Highest directed accuracy, and the largest c that gives it", parts)


def _direction(rows: Rows) -> str:
    of_graph = {(row.split, row.metric): row.value for row in rows if row.tree == GRAPH and row.source == "weights"}
    splits = dict.fromkeys(split for split, _ in of_graph)
    return _sentence(
        "The paper gives no share; two of its five FT trees suffered from a wrong score. Here it falls on",
        (
            f"{of_graph[split, 'score falls']:.2f} of {split} (kurtosis {of_graph[split, 'kurtosis at the root']:.1f})"
            for split in splits
        ),
    )


def _smaller_trees(rows: Rows) -> str:
    parts = []
    for way in dict.fromkeys(row.metric.split(", ")[0] for row in rows):
        spans = {
            source: [row.value for row in rows if row.source == source and row.metric.startswith(f"{way}, ")]
            for source in ("weights", "sketch")
        }
        said = (f"{min(span):.2f} to {max(span):.2f}" for span in spans.values() if span)
        parts.append(f"{way} {', sketches '.join(said)}")
    theirs = [row.paper for row in rows if row.paper is not None]
    parts += [f"the paper {min(theirs):.2f} to {max(theirs):.2f}"] if theirs else []
    return _sentence("Over all sizes", parts)


def _triplets(rows: Rows) -> str:
    """Means over the three kinds that have a root to find."""
    parts = []
    lot = float(np.mean(list(ROOT_BY_LOT.values())))
    for split in dict.fromkeys(row.split for row in rows):
        said = {}
        for metric in ("edges placed", "solved"):
            means = []
            for source in ("weights", "sketch"):
                names = {f"{metric}, {kind}" for kind in ROOT_BY_LOT}
                found = [r.value for r in rows if (r.split, r.source) == (split, source) and r.metric in names]
                means.append(float(np.mean(found)) if found else None)
            if means[0] is not None:
                said[metric] = f"{metric} {_two(means[0], means[1])}"
        if said:
            parts.append(f"{split} {', '.join(said.values())}")
    return _sentence(f"The paper gives no numbers. Mean over GPC, PC2 and PCS (roots by lot: {lot:.2f})", parts)


def _training(rows: Rows) -> str:
    return _sentence(
        "The paper: almost monotonic. Share of steps that go its way",
        (f"{row.metric} {says}" for row, says in _pairs(rows) if row.tree == GRAPH),
    )


def _clustering(rows: Rows) -> str:
    parts = []
    for split in dict.fromkeys(row.split for row in rows):
        found = {
            source: min(row.value for row in rows if (row.split, row.source) == (split, source))
            for source in dict.fromkeys(row.source for row in rows if row.split == split)
        }
        if "weights" in found:
            parts.append(f"{split} {_two(found['weights'], found.get('sketch'))}")
    return _sentence("The paper: perfect for the whole graph, high for small ones. Here the lowest of any size", parts)


def _monotonic(theirs: str) -> Callable[[Rows], str]:
    def say(rows: Rows) -> str:
        steady = []
        for metric in dict.fromkeys(row.metric for row in rows):
            found = [r.value for r in rows if r.metric == metric and r.source == "weights" and r.tree != GRAPH]
            if found and (min(found) >= MONOTONIC or max(found) <= 1 - MONOTONIC):
                steady.append(metric)
        bound = f"in at least {MONOTONIC:.0%} of the steps of each"
        return f"The paper: {theirs} in all trees. Here, one way {bound}: {', '.join(steady) or 'none'}."

    return say


READINGS: Final[Mapping[str, Callable[[Rows], str]]] = {
    "table 1": _table_1,
    "LoRA with l_FT": lambda rows: _beside_the_paper(rows, lambda row: row.split),
    "lambda": _constants,
    "direction": _direction,
    "table 4": _smaller_trees,
    "similar models": lambda rows: _beside_the_paper(rows, lambda row: row.metric),
    "triplets": _triplets,
    "figure 2": lambda rows: _beside_the_paper(rows, lambda row: f"{row.split} {row.metric.replace(', ', ' ')}"),
    "figure 3": _training,
    "figure 7": _clustering,
    "figure 14": _monotonic("only kurtosis is consistent"),
    "figure 19": _monotonic("only the dense layers are consistent"),
}
