"""How what `bench place` measures grows with the graph: a table, and log-log plots with the slopes of the lines.

    scripts/bench growth [--models 1000,3000,10000,30000] [--svg PATH] [--from FILE] [--json]

Each size is one run of `bench place` in a fresh process. --from reads its JSON lines, one a size, and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.accuracy.figures import Line, Panel, draw

SECONDS: Final = {
    "one_alone_s": "one, alone",
    "one_small_family_s": "one, small family",
    "one_placement_s": "one, largest family",
    "night_s": "night",
    "rebuild_s": "rebuild",
}
SIZES: Final = {"peak_mb": "peak memory", "disk_mb": "on disk"}
ANSWERS: Final = {"ancestors_warm_ms": "ancestors, warm", "ancestors_cold_ms": "ancestors, cold"}
"""Fields of `bench place` -> what they are called."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--models", default="1000,3000,10000,30000", help="sizes, with commas between")
    parser.add_argument("--svg", type=Path, help="draw here")
    parser.add_argument("--from", dest="told", type=Path, help="JSON lines of `bench place`")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.told:
        results = [json.loads(line) for line in options.told.read_text().splitlines() if line.startswith("{")]
    else:
        results = [_place(int(models)) for models in options.models.split(",")]
    results.sort(key=lambda result: result["models"])
    slopes = {name: slope(results, name) for name in (*SECONDS, *SIZES, *ANSWERS)}
    if not options.json:
        print("| models | " + " | ".join(f"{result['models']:,}" for result in results) + " | grows as |")
        print("|---|" + "---:|" * (len(results) + 1))
        for name in (*SECONDS, *SIZES, *ANSWERS, "edges_recovered", "agreement_with_rebuild"):
            told = " | ".join(f"{result[name]:,.4g}" for result in results)
            print(f"| {name} | {told} | {f'n^{slopes[name]:.2f}' if name in slopes else ''} |")
    if options.svg:
        panels = [
            _panel("Seconds of a run", "seconds", SECONDS, results),
            _panel("Memory and disk", "MB", SIZES, results),
            _panel("Answers", "milliseconds", ANSWERS, results),
        ]
        draw(panels, options.svg)
    print(json.dumps({"models": [result["models"] for result in results], "slopes": slopes}))
    return 0


def slope(results: Sequence[dict[str, float]], name: str) -> float:
    """Exponent a of the line n^a through the results, by least squares of logarithms; NaN of fewer than two."""
    if len(results) < 2:
        return float("nan")
    points = np.log([[result["models"], result[name]] for result in results])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0])


def _place(models: int) -> dict[str, float]:
    print(f"bench place --models {models}", file=sys.stderr, flush=True)
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.place", "--models", str(models), "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    result: dict[str, float] = json.loads(told.splitlines()[-1])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def _panel(title: str, unit: str, fields: dict[str, str], results: Sequence[dict[str, float]]) -> Panel:
    sizes = [np.log10(result["models"]) for result in results]
    lines = [
        Line(label, sizes, [np.log10(result[name]) for result in results], colour=at)
        for at, (name, label) in enumerate(fields.items())
    ]
    return Panel(title, "log10 of models", f"log10 of {unit}", lines)


if __name__ == "__main__":
    sys.exit(main())
