"""Figures 3, 14 and 19: statistics of the weights along pre-training and along fine-tuning, from saved checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.table_rows import GRAPH, Row
from benchmarks.accuracy.whole_weights import Descent, ModelSet
from indexer.family import Family, TensorColumn
from indexer.paper import layer_kind

__all__ = ["KINDS", "STATISTICS", "Course", "courses", "layer_types", "other_scores", "statistic", "training_steps"]

STATISTICS: Final = ("mean", "variance", "skewness", "kurtosis", "entropy")
KINDS: Final = ("query", "value", "key", "dense")
BINS: Final = 256


@dataclass(frozen=True, slots=True)
class Course:
    """A run of training: the rows of its states, the model it started from first."""

    tree: str
    generalization: bool
    rows: NDArray[np.int64]


def courses(truth: Descent) -> list[Course]:
    """Every path down a tree along edges of one stage, as far as it goes: pre-trainings and fine-tunings."""
    n = len(truth.tree)
    child = np.flatnonzero(truth.parent >= 0)
    down: dict[tuple[int, bool], list[int]] = {}
    for row in child:
        down.setdefault((int(truth.parent[row]), bool(truth.generalization[row])), []).append(int(row))
    found = []
    for stage in (True, False):
        starts = [row for row in range(n) if (row, stage) in down and not _continues(truth, row, stage)]
        paths = [[row] for row in sorted(starts, key=lambda row: truth.tree[row])]
        for path in paths:
            further = down.get((path[-1], stage), [])
            if further:
                paths.extend([*path, row] for row in further)
            else:
                found.append(Course(truth.tree[path[-1]], stage, np.array(path, np.int64)))
    return found


def _continues(truth: Descent, row: int, stage: bool) -> bool:
    """Whether a model is itself the outcome of a step of this stage."""
    return bool(truth.parent[row] >= 0 and truth.generalization[row] == stage)


def statistic(name: str, models: ModelSet, family: Family, kind: str = "dense") -> NDArray[np.float64]:
    """n: a directional score other than kurtosis (figure 14), summed over layers of a kind as equation 3 does it.

    All but the entropy are exact moments, from sketches as from whole weights. Entropy (in nats) is that of a histogram
    of BINS bins over the range that a layer has in any model of the tree, of what samples there are.
    """
    layers = [tensor for tensor in family.measured if layer_kind(tensor.name) == kind]
    if name == "entropy":
        return np.asarray(sum(_entropy(layer, models.truth.tree) for layer in layers))
    third = [{sketch.tensor: sketch.m3 for sketch in model.sketches} for model in models.models]
    formulas: dict[str, Callable[[TensorColumn], NDArray[np.float64]]] = {
        "mean": lambda layer: layer.mean,
        "variance": lambda layer: layer.m2,
        "skewness": lambda layer: np.array([m3[layer.name] for m3 in third]) / layer.m2**1.5,
        "kurtosis": lambda layer: layer.kurtosis,
    }
    return np.asarray(sum(formulas[name](layer) for layer in layers))


def _entropy(layer: TensorColumn, tree: Sequence[str]) -> NDArray[np.float64]:
    names = np.array(tree)
    result = np.zeros(len(names))
    for each in np.unique(names):
        rows = np.flatnonzero(names == each)
        ends = (float(layer.minimum[rows].min()), float(layer.maximum[rows].max()))
        for row in rows:
            share = np.histogram(layer.samples[row], BINS, ends)[0] / layer.samples.shape[1]
            result[row] = -float((share[share > 0] * np.log(share[share > 0])).sum())
    return result


def _steps(values: NDArray[np.float64], runs: Sequence[Course]) -> NDArray[np.float64]:
    """What each step of the runs adds; a step that two runs share counts once."""
    pairs = {(int(a), int(b)) for run in runs for a, b in zip(run.rows, run.rows[1:], strict=False)}
    return np.array([values[b] - values[a] for a, b in sorted(pairs)])


def training_steps(models: ModelSet, family: Family, source: str) -> Iterator[Row]:
    """Figure 3: the share of steps in which the directional weight score (equation 3, dense layers) moves the paper's
    way: up in generalization, down in specialization. Tree by tree, then all."""
    score = statistic("kurtosis", models, family)
    for generalization, stage in ((True, "pre-training rises"), (False, "fine-tuning falls")):
        runs = [run for run in courses(models.truth) if run.generalization == generalization]
        for tree in [*dict.fromkeys(run.tree for run in runs), GRAPH] if runs else []:
            steps = _steps(score, [run for run in runs if tree in (run.tree, GRAPH)])
            right = steps > 0 if generalization else steps < 0
            yield Row("figure 3", models.split, tree, source, stage, float(right.mean()), of=len(steps))


def other_scores(models: ModelSet, family: Family, source: str) -> Iterator[Row]:
    """Figure 14: the share of steps of fine-tuning in which a score rises, tree by tree: 0 or 1 where it is monotonic,
    and of use where it is the same in all trees."""
    yield from _tallied("figure 14", models, source, {n: statistic(n, models, family) for n in STATISTICS})


def layer_types(models: ModelSet, family: Family, source: str) -> Iterator[Row]:
    """Figure 19: the same for the kurtosis of each type of layer."""
    yield from _tallied(
        "figure 19", models, source, {kind: statistic("kurtosis", models, family, kind) for kind in KINDS}
    )


def _tallied(table: str, models: ModelSet, source: str, scores: dict[str, NDArray[np.float64]]) -> Iterator[Row]:
    runs = [run for run in courses(models.truth) if not run.generalization]
    for name, values in scores.items() if runs else ():
        for tree in [*dict.fromkeys(run.tree for run in runs), GRAPH]:
            steps = _steps(values, [run for run in runs if tree in (run.tree, GRAPH)])
            yield Row(table, models.split, tree, source, f"{name} rises", float((steps > 0).mean()), of=len(steps))
