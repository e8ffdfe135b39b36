"""The weights of what speaks for a root, fitted, and every figure of them with one family left out.

    scripts/accuracy --fit [--sets ...] [--reliability SVG]

A family is what comes from one pre-training, whatever was done to it: a root of VTHR over all its splits, an
architecture of `scripts/bench trained`, a published package. For each, the weights are fitted on all others, and the
family is solved with them: what its roots, edges and confidences are worth then is the honest figure. The weights that
modelkin ships are the fit on all, rounded.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.accuracy.logit import Choice, fit, log_loss, rank
from benchmarks.accuracy.printing import rounded, show_pools, show_table
from benchmarks.accuracy.reliability import Judged, draw, pooled, summary
from benchmarks.accuracy.score import judged, score
from benchmarks.accuracy.sets import Collection
from benchmarks.accuracy.sketching import sketched
from benchmarks.accuracy.solving import Task, solve, subset
from benchmarks.accuracy.truth import Truth, read_truth, restrict
from indexer.ancestry import candidates
from indexer.copies import group_copies
from indexer.core import find_core, measure_tree
from indexer.derived import find_derived
from indexer.family import Family
from indexer.partial import told_apart
from indexer.roots import FEATURES, WEIGHTS
from indexer.solve import split

__all__ = ["Part", "choice_of", "family_name", "leave_one_out", "parts_of", "report"]

RIDGE: Final = 0.01
"""On squared weights, against a mean loss of about one nat: features are few and families fewer."""
TRAINED: Final = ("trees", "run", "fan")
"""What `scripts/bench trained` makes of each of its architectures."""


@dataclass(frozen=True, slots=True)
class Part:
    """The models of one family in one collection."""

    family: str
    set: str
    split: str
    task: Task
    choices: tuple[Choice, ...]


def family_name(collection: Collection, model: str) -> str:
    """What a model is left out together with."""
    if collection.split.rpartition("-")[2] in TRAINED:
        return collection.split.partition("-")[0]
    return model.partition("/")[0] if "/" in model else collection.split


def parts_of(collection: Collection) -> Iterator[Part]:
    """A collection, family by family."""
    sketches = sketched(collection.folder, collection.graph)
    truth = read_truth(collection.folder, sketches.models)
    members: dict[str, list[str]] = defaultdict(list)
    for model in truth.models:
        members[family_name(collection, model)].append(model)
    for family, models in members.items():
        families = subset(sketches.families, models)
        alone = restrict(truth, models)
        trained = collection.split.rpartition("-")[2]
        kind = trained if trained in TRAINED else collection.split
        found = (choice_of(each.take(rows), alone, family, kind) for each in families for rows in split(each))
        choices = tuple(choice for choice in found if choice is not None)
        yield Part(family, collection.set, collection.split, Task(families, alone), choices)


def choice_of(component: Family, truth: Truth, family: str, kind: str) -> Choice | None:
    """Which model is the root; None where fewer than three models are searched, where not exactly one has no parent
    among them, or where some are merges, whose parents are not searched for."""
    tree = component.take(np.array(list(group_copies(component)), np.int64))
    if len(tree) < 3:
        return None
    measured = measure_tree(tree)
    core = find_core(tree, measured.squared, find_derived(tree, measured.squared, measured.correlation))
    names = core.family.names
    roots = [row for row, name in enumerate(names) if not set(truth.parents.get(name, ())) & set(names)]
    if len(names) < 3 or len(roots) != 1 or core.merges or names[roots[0]] in truth.absent:
        return None
    found = candidates(told_apart(core.family, core.squared), core.cues, core.prior)
    if roots[0] not in found.root:
        return None
    return Choice(family, kind, found.features, -found.claimed, found.root.tolist().index(roots[0]))


def leave_one_out(choices: Sequence[Choice]) -> dict[str, NDArray[np.float64]]:
    """Family -> weights fitted on all others."""
    families = sorted({choice.family for choice in choices})
    return {family: fit([c for c in choices if c.family != family], RIDGE) for family in families}


def report(found: Sequence[Collection], reliability: Path | None, console: Console) -> int:
    """Print the tables, draw the reliability diagram."""
    parts = []
    for collection in found:
        print(f"{collection.set} {collection.split}", file=sys.stderr, flush=True)
        parts += list(parts_of(collection))
    choices = [choice for part in parts for choice in part.choices]
    left_out = leave_one_out(choices)
    whole = fit(choices, RIDGE)
    _show(_weights(whole, left_out), console)
    _show(_roots(choices, whole, left_out), console)
    lines: list[tuple[str, str, Judged]] = []
    rows = []
    for part in parts:
        answer = solve(replace(part.task, root_weights=left_out.get(part.family, whole)), "default")
        assert answer is not None
        lines.append((part.set, part.split, judged(part.task.truth, answer)))
        rows.append((part, score(part.task.truth, answer)))
    _show(_edges(rows), console)
    pools = pooled(lines)
    show_pools(summary(pools), console)
    if reliability is not None:
        draw(pools, reliability)
    return 0


def _show(rows: Iterator[dict[str, Any]], console: Console) -> None:
    lines = list(rows)
    names = [key for key, value in lines[0].items() if isinstance(value, str)] if lines else []
    figures = [key for key in lines[0] if key not in names] if lines else []
    show_table(names, figures, [[*line.values()] for line in lines], console)
    console.print()


def _weights(whole: NDArray[np.float64], left_out: Mapping[str, NDArray[np.float64]]) -> Iterator[dict[str, Any]]:
    each = np.array(list(left_out.values()))
    for at, name in enumerate(FEATURES):
        yield rounded(
            {
                "feature": name,
                "shipped": float(WEIGHTS[at]),
                "fitted on all": float(whole[at]),
                "least": float(each[:, at].min()),
                "most": float(each[:, at].max()),
            }
        )


def _roots(
    choices: Sequence[Choice], whole: NDArray[np.float64], left_out: Mapping[str, NDArray[np.float64]]
) -> Iterator[dict[str, Any]]:
    """By kind and over all: trees, right roots and mean loss by three sets of weights."""
    kinds = [*sorted({choice.kind for choice in choices}), "all"]
    for kind in kinds:
        those = [choice for choice in choices if kind in (choice.kind, "all")]
        row: dict[str, Any] = {"kind": kind, "trees": len(those)}
        for name, of in (
            ("shipped", [WEIGHTS] * len(those)),
            ("fitted on all", [whole] * len(those)),
            ("left out", [left_out[choice.family] for choice in those]),
        ):
            row[name] = sum(rank(c, w) == 1 for c, w in zip(those, of, strict=True))
            row[f"loss, {name}"] = float(np.mean([log_loss(c, w) for c, w in zip(those, of, strict=True)]))
        yield rounded(row)


def _edges(rows: Sequence[tuple[Part, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """By set and split: edges, and how many come out when their family is left out."""
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for part, line in rows:
        edges = line["truth_edges"]
        totals[part.set, part.split][0] += edges
        totals[part.set, part.split][1] += round((line["directed_accuracy"] or 0.0) * edges)
    for (name, split_name), (edges, right) in totals.items():
        if edges:
            yield rounded({"set": name, "split": split_name, "edges": edges, "right": right, "share": right / edges})
