"""What is true of a collection: truth.csv and order.csv, read into plain values.

truth.csv has the columns `child,parent` and, where its author knew them, `relation,stage,tree,coefficient`. A root has
no row or an empty parent. `missing:NAME` is a parent that is not in the collection: no method can find that edge, and
the child is an orphan. Several rows of one child are a merge.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from store.errors import StopError

__all__ = ["MISSING", "Truth", "TruthRow", "generalizing", "make_truth", "read_order", "read_truth", "restrict"]

MISSING = "missing:"


@dataclass(frozen=True, slots=True)
class TruthRow:
    """One row of truth.csv; what it does not say is ""."""

    child: str
    parent: str = ""
    relation: str = ""
    stage: str = ""
    tree: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """The descent of `models`, which are sorted."""

    models: tuple[str, ...]
    parents: Mapping[str, frozenset[str]]
    """Child -> its parents among `models`: one, or those of a merge. Roots and orphans are not in it."""
    orphans: frozenset[str]
    """Models whose parents are all outside of `models`."""
    cluster: Mapping[str, int]
    """Model -> connected component of the whole descent, what is missing included; a stranger is alone in its own."""
    relation: Mapping[str, str] = field(default_factory=dict)
    stage: Mapping[str, str] = field(default_factory=dict)
    tree: Mapping[str, str] = field(default_factory=dict)

    @property
    def clusters(self) -> int:
        return len(set(self.cluster.values()))


def make_truth(rows: Iterable[TruthRow], models: Iterable[str]) -> Truth:
    """The truth of `models`. Rows that name others as child or parent say that those are missing."""
    rows = list(rows)
    present = sorted(set(models))
    here = set(present)
    parents: dict[str, set[str]] = defaultdict(set)
    descended: set[str] = set()
    for row in rows:
        if row.parent and row.child in here:
            descended.add(row.child)
            if row.parent in here:
                parents[row.child].add(row.parent)
    labels = _components({*here, *(r.child for r in rows), *(r.parent for r in rows if r.parent)}, rows)
    return Truth(
        tuple(present),
        {child: frozenset(found) for child, found in sorted(parents.items())},
        frozenset(descended - parents.keys()),
        {model: labels[model] for model in present},
        *({r.child: value for r in rows if r.child in here and (value := getattr(r, name))} for name in _DETAILS),
    )


_DETAILS = ("relation", "stage", "tree")


def _components(nodes: Collection[str], rows: Sequence[TruthRow]) -> dict[str, int]:
    """Connected components of child and parent, and of what is said to be one tree."""
    up = {node: node for node in nodes}

    def find(node: str) -> str:
        while up[node] != node:
            up[node] = up[up[node]]
            node = up[node]
        return node

    first_of: dict[str, str] = {}
    for row in rows:
        if row.parent:
            up[find(row.child)] = find(row.parent)
        if row.tree:
            up[find(row.child)] = find(first_of.setdefault(row.tree, row.child))
    number: dict[str, int] = {}
    return {node: number.setdefault(find(node), len(number)) for node in sorted(nodes)}


def restrict(truth: Truth, models: Collection[str]) -> Truth:
    """The truth of some of the models: parents that are left out make orphans."""
    kept = set(models)
    parents = {c: found & kept for c, found in truth.parents.items() if c in kept}
    lost = {child for child, found in parents.items() if not found}
    relation, stage, tree = (
        {m: value for m, value in each.items() if m in kept} for each in (truth.relation, truth.stage, truth.tree)
    )
    return Truth(
        tuple(m for m in truth.models if m in kept),
        {child: found for child, found in parents.items() if found},
        frozenset((truth.orphans & kept) | lost),
        {m: truth.cluster[m] for m in truth.models if m in kept},
        relation,
        stage,
        tree,
    )


def generalizing(truth: Truth) -> frozenset[str]:
    """The models that the paper's method is told are of the generalization stage (T of equation 5).

    The stage of a model is that of the training that made it. A root, which nothing here made, is labelled as most of
    its children are: section 6.1 labels *all* models of its trees as specialization, foundation models included, for an
    edge between a root and its child is of one stage whichever way round it is tried.
    """
    said = {model: stage == "generalization" for model, stage in truth.stage.items()}
    votes: dict[str, int] = defaultdict(int)
    for child, parents in truth.parents.items():
        for parent in parents - truth.parents.keys() - truth.orphans:
            votes[parent] += 1 if said.get(child) else -1
    made = {model for model, yes in said.items() if yes and (model in truth.parents or model in truth.orphans)}
    return frozenset(made | {root for root, sum_of_votes in votes.items() if sum_of_votes > 0})


def read_truth(folder: Path, models: Iterable[str]) -> Truth:
    """The truth of a collection, `models` being those that were crawled from it.

    A model that is there and that the crawl could not read counts: no method finds its parent.
    """
    path = folder / "truth.csv"
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"child", "parent"} <= set(reader.fieldnames or ()):
            raise StopError(f"{path}: expected the columns child and parent, found {reader.fieldnames}")
        names = [each.name for each in fields(TruthRow)]
        rows = [TruthRow(**{name: (row.get(name) or "").strip() for name in names}) for row in reader]
    named = {name for row in rows for name in (row.child, row.parent) if name and not name.startswith(MISSING)}
    found = set(models)
    if absent := sorted(name for name in named - found if not (folder / name).is_dir()):
        raise StopError(f"{path} names {', '.join(absent[:5])}, and {folder} has no such model")
    return make_truth(rows, found | named)


def read_order(folder: Path) -> dict[str, float] | None:
    """Model -> its place in the order of uploads, from order.csv; None when there is none."""
    path = folder / "order.csv"
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return {row["model"]: float(row["order"]) for row in csv.DictReader(file)}
