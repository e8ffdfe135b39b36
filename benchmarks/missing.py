"""What inferring ancestors costs where nobody is missing, and what it finds where one is.

    scripts/bench missing DIR [DIR ...] [--json]

Each DIR holds sets of models, such as `scripts/bench trained --to DIR` leaves: a folder a set, with models and a
truth.csv (child, parent). Every set is solved as it is, and once for each inner node with two or more children left
out, together with its casts, copies and quantised forms. A parent that is not in the set is written `missing:NAME` in
the truth.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.accuracy.absent import alike, broods
from benchmarks.accuracy.sketching import sketched
from indexer.family import Family
from indexer.solve import Component, solve_component, split

__all__ = ["MISSING", "MissingScore", "score_missing"]

MISSING = "missing:"
DERIVED = ("cast", "quantized", "pruned", "copy")


@dataclass(frozen=True, slots=True)
class MissingScore:
    """Counts; scores add up."""

    truth_edges: int = 0
    """Edges between models that are there."""
    found_edges: int = 0
    """Of them, found without inference."""
    lost_edges: int = 0
    """Of these, lost by inference."""
    orphans: int = 0
    """Models whose parent is missing and who have a sibling."""
    right: int = 0
    """Of them, those whose parent is inferred and has just their siblings as other children."""
    mostly_right: int = 0
    """The same where other children and siblings have a Jaccard index of .5 or more."""
    sibling_edges: int = 0
    """Orphans that hang from a sibling without inference."""
    sibling_edges_avoided: int = 0
    nodes: int = 0
    """Inferred nodes with models for children."""
    nodes_right: int = 0
    """Of them, those whose children are mostly (Jaccard .5) the children of one missing model."""

    def __add__(self, other: MissingScore) -> MissingScore:
        return MissingScore(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def score_missing(
    found: Mapping[str, str], plain: Mapping[str, str], truth: Mapping[str, str], inferred: Collection[str]
) -> MissingScore:
    """Compare edges (child -> parent) `found` with inference and `plain` without it.

    `truth` gives each child's parent, `missing:NAME` where it is not there; `inferred` names the inferred nodes.
    """
    absent = {parent for parent in truth.values() if parent.startswith(MISSING)}
    groups = [children for children in broods(truth, absent, truth.keys()).values() if len(children) > 1]
    adopted = broods(found, inferred, found.keys() - set(inferred))
    present = {child: parent for child, parent in truth.items() if not parent.startswith(MISSING)}
    kept = [child for child, parent in present.items() if plain.get(child) == parent]
    score = MissingScore(
        truth_edges=len(present),
        found_edges=len(kept),
        lost_edges=sum(found.get(child) != present[child] for child in kept),
        nodes=len(adopted),
        nodes_right=sum(any(alike(children, group) for group in groups) for children in adopted.values()),
    )
    return sum((_score_orphan(child, group, found, plain, adopted) for group in groups for child in group), score)


def _score_orphan(
    child: str,
    group: set[str],
    found: Mapping[str, str],
    plain: Mapping[str, str],
    adopted: Mapping[str, set[str]],
) -> MissingScore:
    others = adopted.get(found.get(child, ""), {child}) - {child}
    siblings = group - {child}
    chained = plain.get(child) in siblings
    return MissingScore(
        orphans=1,
        right=int(others == siblings),
        mostly_right=int(alike(others, siblings)),
        sibling_edges=int(chained),
        sibling_edges_avoided=int(chained and found.get(child) != plain[child]),
    )


def _solve(family: Family, infer: bool) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Child -> parent and child -> relation by name, and the names of inferred nodes."""
    names = {int(i): name for i, name in zip(family.model_ids, family.names, strict=True)}
    parts: list[Component] = [solve_component(family.take(part), infer=infer) for part in split(family)]
    inferred = {node.inferred_id: node.name for part in parts for node in part.inferred}
    names |= inferred
    edges = [edge for part in parts for edge in part.edges]
    parents = {names[edge.child_id]: names[edge.parent_id] for edge in edges}
    return parents, {names[edge.child_id]: edge.relation for edge in edges}, set(inferred.values())


def _score_set(folder: Path) -> Iterator[tuple[str, MissingScore]]:
    """(what was left out, score) of a set: "nothing", "root" or "inner"."""
    with (folder / "truth.csv").open(newline="") as file:
        truth = {row["child"]: row["parent"] for row in csv.DictReader(file) if row["parent"]}
    with tempfile.TemporaryDirectory() as graph:
        families = sketched(folder, Path(graph)).families
    for family in families:
        known = {child: parent for child, parent in truth.items() if child in family.names}
        plain, relations, _ = _solve(family, infer=False)
        yield "nothing", _score(family, known, plain)
        derived = {child for child, relation in relations.items() if relation in DERIVED}
        for name in sorted(set(known.values()) & set(family.names)):
            if sum(parent == name and child not in derived for child, parent in known.items()) < 2:
                continue
            gone = {name, *(child for child in derived if plain[child] == name)}
            rest = family.take([row for row, model in enumerate(family.names) if model not in gone])
            orphaned = {c: MISSING + p if p == name else p for c, p in known.items() if c not in gone}
            yield "inner" if name in known else "root", _score(rest, orphaned, _solve(rest, infer=False)[0])


def _score(family: Family, truth: Mapping[str, str], plain: Mapping[str, str]) -> MissingScore:
    found, _, inferred = _solve(family, infer=True)
    return score_missing(found, plain, truth, inferred)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench missing", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="the last line only")
    options = parser.parse_args(arguments)
    total: dict[str, MissingScore] = defaultdict(MissingScore)
    for folder in options.folders:
        for path in sorted(folder.glob("**/truth.csv")):
            scores: dict[str, MissingScore] = defaultdict(MissingScore)
            for left_out, score in _score_set(path.parent):
                scores[left_out] += score
                total[left_out] += score
            if not options.json:
                for left_out, score in scores.items():
                    print(f"{path.parent.name:<24} without {left_out:<8} {_line(score)}", flush=True)
    print(json.dumps({left_out: asdict(score) for left_out, score in total.items()}))
    return 0


def _line(s: MissingScore) -> str:
    return (
        f"edges {s.found_edges}/{s.truth_edges}, lost {s.lost_edges}; orphans {s.right}/{s.orphans} right, "
        f"{s.mostly_right} mostly; nodes {s.nodes_right}/{s.nodes} right; "
        f"sibling edges {s.sibling_edges}, avoided {s.sibling_edges_avoided}"
    )


if __name__ == "__main__":
    sys.exit(main())
