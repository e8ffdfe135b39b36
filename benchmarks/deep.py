"""What hangs on the root of a large tree in place of its parent: the line that is drawn, and the one that was fitted.

    scripts/bench deep [--models 15000] [--seed 0] [--weights-only] [--json]

The largest family of a synthetic Hub of so many models (benchmarks/scale/forest.py), a tenth of them, is solved twice:
with the head start of its root told by `indexer.head_start.valley`, as components of more than 320 models have it, and
by `indexer.head_start.head_start`, as smaller ones have it. An edge is right when it leads to a parent with the true
parent's content; of a merge either will do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.scale.hub import SyntheticHub
from indexer.from_sketches import make_family
from indexer.head_start import head_start, valley
from indexer.metadata import Metadata
from indexer.solve import Component, solve_component

Rule = Callable[[NDArray[np.float64], float], float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench deep", description=__doc__)
    parser.add_argument("--models", type=int, default=15_000, help="of the Hub; at least 4,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights-only", action="store_true", help="upload dates do not weigh in")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args(arguments)
    if options.models < 4_000:
        parser.error("expected at least 4,000 models")
    told = measure(options.models, options.seed, not options.weights_only)
    if not options.json:
        print(f"{'rule':<12} {'line':>6} {'edges':>7} {'wrong':>6} {'on the root':>11}")
        for row in told:
            print(f"{row['rule']:<12} {row['line']:>6.1f} {row['edges']:>7,} {row['wrong']:>6,} {row['on_root']:>11,}")
    print(json.dumps({"models": options.models, "seed": options.seed, "deep": told}))
    return 0


def measure(models: int, seed: int, dates: bool) -> list[dict[str, float | str]]:
    """A row for each rule."""
    hub = SyntheticHub(models, seed)
    chosen = np.flatnonzero(hub.forest.family == 0).tolist()
    made = sorted(((hub.model(i), i) for i in chosen), key=lambda each: each[0].name)
    place = {at: i for at, (_, i) in enumerate(made, 1)}
    rows = [
        (
            at,
            model.name,
            model.content_hash,
            model.created_at.timestamp() if model.created_at else np.nan,
            model.sketches,
        )
        for at, (model, _) in enumerate(made, 1)
    ]
    family = make_family(made[0][0].architecture, rows, hub.roles(chosen[0]))
    metadata = Metadata(("s",) * len(family), ((),) * len(family)) if dates else None
    found: list[dict[str, float | str]] = []
    memory = None
    for rule in (valley, head_start):
        lines: list[float] = []

        def noted(margins: NDArray[np.float64], most: float, rule: Rule = rule, lines: list[float] = lines) -> float:
            lines.append(rule(margins, most))
            return lines[-1]

        # One process, and BLAS on one thread, as in an update.
        with threadpool_limits(1), patch("indexer.large.valley", noted):
            component = solve_component(family, metadata, stored=memory)
        memory = component.memory
        found.append({"rule": rule.__name__, "line": lines[-1], **_score(hub, component, place, family.content_hashes)})
    return found


def _score(
    hub: SyntheticHub, component: Component, place: dict[int, int], contents: Sequence[str]
) -> dict[str, float | str]:
    """How many edges are wrong, and how many of those lead to the root that was found. `contents` are by id."""
    content = {place[at]: contents[at - 1] for at in place}
    above: dict[str, set[str]] = {}
    parent = {}
    for edge in component.edges:
        child, parent_of = place[edge.child_id], place[edge.parent_id]
        parent[child] = parent_of
        above.setdefault(content[child], set()).add(content[parent_of])
    (root,) = content.keys() - parent.keys()
    forest = hub.forest
    edges = wrong = on_root = 0
    for i in content:
        parents = {content[int(p)] for p in (forest.parent[i], forest.other[i]) if p >= 0}
        if parents:
            right = bool(parents & above.get(content[i], set()))
            edges, wrong, on_root = edges + 1, wrong + (not right), on_root + (not right and parent.get(i) == root)
    return {"edges": edges, "wrong": wrong, "on_root": on_root}


if __name__ == "__main__":
    sys.exit(main())
