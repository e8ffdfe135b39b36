"""How long a question takes: ancestors, descendants, and what a model that is not in the graph descends from.

    scripts/bench query [--models N] [--folder PATH] [--json]

The graph is that of `scripts/bench place` before its night (with the same --folder it is taken from there). Each figure
is a median over models drawn at random, in a process that has answered before: `ancestors` and `descendants` by name,
`identify` on sketches in memory, by default of five models.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from benchmarks.scale.hub import SyntheticHub
from benchmarks.scale.memory import in_own_process, peak_mb
from benchmarks.scale.steps import ancestors_cold_ms, run_step
from indexer.identify import identify
from modelkin.graph import ModelGraph
from store.generation import open_reader

_NIGHT = 3_300
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench query", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=200, help="models asked about")
    parser.add_argument("--identified", type=int, default=5, help="models identified")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="as of scripts/bench place")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    total = options.models + min(_NIGHT, options.models // 3)
    with tempfile.TemporaryDirectory(prefix="modelkin-bench-") as temporary:
        graph = (options.folder or Path(temporary)).absolute() / "grown"
        in_own_process(run_step, graph, total, options.seed, range(options.models), resume=True)
        hub = SyntheticHub(total, options.seed)
        rng = np.random.default_rng(options.seed)
        with ModelGraph.open(graph) as asked:
            names = rng.choice(sorted(asked), options.asked, replace=False).tolist()
            result = {
                "models": len(asked),
                "ancestors_ms": round(_ask(asked.ancestors, names), 3),
                "descendants_ms": round(_ask(asked.descendants, names), 3),
            }
        result["ancestors_cold_ms"] = round(ancestors_cold_ms(graph, names[:5]), 1)
        new = [i for i in range(options.models, total) if hub.name(i) not in set(names)][: options.identified]
        sketched = [hub.model(i) for i in new]
        with open_reader(graph) as connection:
            result["identify_ms"] = round(_ask(lambda model: identify(connection, graph, model, limit=10), sketched), 1)
        result["peak_mb"] = round(peak_mb())
    if not options.json:
        for name, value in result.items():
            print(f"{name:<18} {value:>12,}")
    print(json.dumps(result))
    return 0


def _ask(question: Callable[[T], object], about: Sequence[T]) -> float:
    """Median milliseconds, after one that does not count."""
    question(about[0])
    taken = []
    for each in about:
        begun = time.perf_counter()
        question(each)
        taken.append(time.perf_counter() - begun)
    return 1000 * median(taken)


if __name__ == "__main__":
    sys.exit(main())
