"""Are typed edges right? Of every edge with a true parent, the true relation against the one that was found.

The rank that was told of a LoRA is held against that of the whole matrices, and the frozen share of a partial one
against the bytes: both are read from the weights themselves, which the solver has not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.accuracy.printing import show_table
from benchmarks.accuracy.score import Found
from benchmarks.accuracy.truth import Truth
from benchmarks.accuracy.whole_relations import Weights, frozen_share, weights_reader, whole_rank

__all__ = ["UNKNOWN", "confusion", "relation_row", "show_relations"]

UNKNOWN: Final = "?"
"""The true relation where truth.csv does not say it."""

Read = Callable[[str], Weights]


def confusion(truth: Truth, found: Found) -> dict[str, dict[str, int]]:
    """True relation -> found relation -> edges, over the children whose parent was found."""
    counts: dict[str, Counter[str]] = {}
    for child, parents in sorted(truth.parents.items()):
        if found.parent.get(child) in parents:
            counts.setdefault(truth.relation.get(child, UNKNOWN), Counter())[found.relation[child]] += 1
    return {name: dict(sorted(counts[name].items())) for name in sorted(counts)}


def relation_row(truth: Truth, found: Found, folder: Path) -> dict[str, Any]:
    """One split's line: the confusion, and how ranks and frozen shares compare with whole weights in `folder`."""
    table = confusion(truth, found)
    known = {name: row for name, row in table.items() if name != UNKNOWN}
    right = {child: found.parent[child] for child, p in truth.parents.items() if found.parent.get(child) in p}
    read = weights_reader(folder)

    def of(relation: str) -> dict[str, str]:
        return {c: p for c, p in sorted(right.items()) if truth.relation.get(c) == relation == found.relation[c]}

    return {
        "truth_edges": len(truth.parents),
        "right_parents": len(right),
        "known": sum(sum(row.values()) for row in known.values()),
        "right_relations": sum(row.get(name, 0) for name, row in known.items()),
        "confusion": table,
        "lora": _ranks(of("lora"), found, read),
        "partial": _frozen(of("partial"), found, read),
    }


def _ranks(edges: Mapping[str, str], found: Found, read: Read) -> dict[str, int]:
    """Of the LoRA edges: those whose rank was told, and those of which only a least rank was. Of those whose true rank
    is known: the told ones that are right, the largest error, and the bounds that are wrong."""
    told = exact = worst = bounds = wrong_bounds = 0
    for child, parent in edges.items():
        true = whole_rank(read(parent), read(child))
        cues = found.evidence.get(child, {})
        if "rank" in cues:
            told += 1
            exact += cues["rank"] == true
            worst = max(worst, abs(int(cues["rank"]) - true) if true is not None else 0)
        else:
            bounds += 1
            wrong_bounds += true is not None and cues.get("rank_at_least", np.inf) > true
    return {
        "edges": len(edges),
        "rank_told": told,
        "rank_exact": exact,
        "worst_error": worst,
        "rank_bounded": bounds,
        "wrong_bounds": wrong_bounds,
    }


def _frozen(edges: Mapping[str, str], found: Found, read: Read) -> dict[str, int]:
    """Of the partial edges, those whose frozen share of weights is that of the bytes."""
    exact = 0
    for child, parent in edges.items():
        said = found.evidence.get(child, {}).get("frozen", np.inf)
        exact += abs(said - frozen_share(read(parent), read(child))) < 1e-9
    return {"edges": len(edges), "share_exact": exact}


def show_relations(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Two tables: a line for each split and true relation, and a line for each split that has ranks or frozen parts."""
    relations = sorted({found for row in rows for counts in row["confusion"].values() for found in counts})
    lines: list[list[object]] = []
    for row in rows:
        for at, (true, counts) in enumerate(row["confusion"].items()):
            first = (row["set"], row["split"]) if at == 0 else ("", "")
            lines.append([*first, true, *(counts.get(name, "") for name in relations)])
    show_table(("set", "split", "true relation"), relations, lines, console)
    figures = ("lora", "rank told", "exact", "worst error", "bounded", "wrong bound", "partial", "share exact")
    lines = []
    for row in rows:
        lora, partial = row["lora"], row["partial"]
        if lora["edges"] or partial["edges"]:
            lines.append([row["set"], row["split"], *lora.values(), *partial.values()])
    show_table(("set", "split"), figures, lines, console)
    known, right = (sum(row[key] for row in rows) for key in ("known", "right_relations"))
    if known:
        console.print(f"{right} of {known} edges with a true parent have the true relation", highlight=False)
