"""What the paper's figures show, from what was measured: numbers in, panels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.figures import Line, Panel
from benchmarks.accuracy.table_captions import SOURCES
from benchmarks.accuracy.table_distances import distances_of, profile
from benchmarks.accuracy.table_measurements import Measured
from benchmarks.accuracy.table_rows import Row
from benchmarks.accuracy.table_training import KINDS, STATISTICS, Course, courses, statistic
from benchmarks.accuracy.whole_weights import ModelSet
from indexer.family import Family

__all__ = ["figure_2", "figure_3", "figure_7", "figure_14", "figure_19"]

SAYS: Final = {
    "l_ft": "largest change (eq. 1)",
    "l_lora": "rank of the change (eq. 2)",
}


def figure_2(measured: Sequence[Measured]) -> list[Panel]:
    """Weight distance against edge distance, a panel a split."""
    panels = []
    for split in dict.fromkeys(m.split for m in measured):
        lines = []
        for one in [m for m in measured if m.split == split]:
            for distance in distances_of(one):
                points = profile(one, distance)
                lines.append(
                    Line(
                        f"{SAYS[distance]}, {SOURCES[one.source]}",
                        [float(step) for step in points],
                        [mean for mean, _ in points.values()],
                        None if one.source == "sketch" else [deviation for _, deviation in points.values()],
                        list(SAYS).index(distance),
                        one.source == "sketch",
                    )
                )
        panels.append(Panel(split, "edges between two models", "weight distance / that of an edge", lines))
    return panels


def figure_3(models: ModelSet, family: Family) -> list[Panel]:
    """The directional weight score along pre-training and along fine-tuning, relative to its start."""
    score = statistic("kurtosis", models, family)
    panels = []
    for generalization, title in ((True, "pre-training (generalization)"), (False, "fine-tuning (specialization)")):
        runs = [run for run in courses(models.truth) if run.generalization == generalization]
        if runs:
            panels.append(Panel(title, "checkpoint", "score since the start, %", _percent(runs, score)))
    return panels


def figure_7(rows: Sequence[Row]) -> list[Panel]:
    """Clustering accuracy against the size of the graph, from the rows of the table; a panel a split."""
    panels = []
    for split in dict.fromkeys(row.split for row in rows):
        lines = []
        for source in ("weights", "sketch"):
            chosen = [row for row in rows if (row.split, row.source) == (split, source)]
            sizes = [float(row.metric.split()[1]) for row in chosen]
            lines.append(Line(SOURCES[source], sizes, [row.value for row in chosen], None, 0, source == "sketch"))
        panels.append(Panel(split, "models in the graph", "clustering accuracy", lines, (0, 1.05)))
    return panels


def figure_14(models: ModelSet, family: Family) -> list[Panel]:
    """Other directional scores along fine-tuning: change since the start, over the largest change."""
    runs = [run for run in courses(models.truth) if not run.generalization]
    panels = []
    for name in STATISTICS if runs else ():
        values = statistic(name, models, family)
        panels.append(Panel(name, "checkpoint", "change / largest change", _changes(runs, values), (-1.1, 1.1)))
    return panels


def figure_19(models: ModelSet, family: Family) -> list[Panel]:
    """Kurtosis along fine-tuning by type of layer."""
    runs = [run for run in courses(models.truth) if not run.generalization]
    return [
        Panel(
            kind, "checkpoint", "change / largest change",
            _changes(runs, statistic("kurtosis", models, family, kind)), (-1.1, 1.1),
        )
        for kind in (KINDS if runs else ())
    ]  # fmt: skip


def _lines(runs: Sequence[Course], values: Sequence[NDArray[np.float64]]) -> list[Line]:
    trees = list(dict.fromkeys(run.tree for run in runs))
    return [
        Line(run.tree, [float(at) for at in range(len(each))], each.tolist(), None, trees.index(run.tree))
        for run, each in zip(runs, values, strict=True)
    ]


def _percent(runs: Sequence[Course], values: NDArray[np.float64]) -> list[Line]:
    return _lines(runs, [100 * (values[run.rows] / values[run.rows[0]] - 1) for run in runs])


def _changes(runs: Sequence[Course], values: NDArray[np.float64]) -> list[Line]:
    changes = [values[run.rows] - values[run.rows[0]] for run in runs]
    return _lines(runs, [change / (np.abs(change).max() or 1.0) for change in changes])
