"""Families of other shapes than the synthetic Hub's: what is recovered of them, and whether growing equals a rebuild.

    scripts/bench shapes [--models 100] [--seeds 3] [--shapes star chain ...] [--weights-only] [--full-size] [--json]

Each family (benchmarks/scale/shapes.py) comes in a random order: nine tenths at once, one model, the rest while one
goes; then all that are left are placed in a new graph, in the opposite order. An edge is right as in
scripts/bench place, whose weights and dates these are too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.scale.hub import SyntheticHub
from benchmarks.scale.score import agreement, recovered
from benchmarks.scale.shapes import SHAPES
from benchmarks.scale.steps import run_step
from store.progress import SilentProgress

_SILENT = SilentProgress()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench shapes", description=__doc__)
    parser.add_argument("--models", type=int, default=100, help="of each family; at least 20")
    parser.add_argument("--seeds", type=int, default=3, help="families of each shape")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--weights-only", action="store_true", help="upload dates do not weigh in")
    parser.add_argument("--full-size", action="store_true", help="sketches as large as those of any real model")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args(arguments)
    if options.models < 20:
        parser.error("expected at least 20 models")
    if not options.json:
        print(f"{'shape':<14} {'recovered':>9} {'either way':>10} {'agreement':>9} {'one, s':>7} {'rebuild, s':>10}")
    told = {}
    for shape in options.shapes:
        families = [
            measure(shape, options.models, seed, not options.weights_only, options.full_size)
            for seed in range(options.seeds)
        ]
        row = {name: round(mean(family[name] for family in families), 4) for name in families[0]}
        told[shape] = row
        if not options.json:
            print(
                f"{shape:<14} {row['edges_recovered']:>9.3f} {row['edges_either_way']:>10.3f} "
                f"{row['agreement_with_rebuild']:>9.4f} {row['one_s']:>7.2f} {row['rebuild_s']:>10.2f}",
                flush=True,
            )
    print(json.dumps({"models": options.models, "seeds": options.seeds, "shapes": told}))
    return 0


def measure(shape: str, models: int, seed: int, dates: bool, full_size: bool) -> dict[str, float]:
    """Figures of one family."""
    hub = SyntheticHub(models, seed, full_size, shape)
    order = np.random.default_rng([seed, 1]).permutation(models).tolist()
    most = 9 * models // 10
    gone = next(i for i in order if hub.forest.parent[i] >= 0)
    left = [i for i in order if i != gone]
    run = partial(
        run_step, models=models, seed=seed, use_metadata=dates, full_size=full_size, shape=shape, progress=_SILENT
    )
    with tempfile.TemporaryDirectory(prefix="modelkin-bench-") as folder:
        grown, afresh = Path(folder) / "grown", Path(folder) / "afresh"
        run(grown, add=order[:most])
        one = run(grown, add=[order[most]])
        run(grown, add=order[most + 1 :], remove=[gone])
        rebuild = run(afresh, add=left[::-1])
        assert one is not None
        assert rebuild is not None
        share, either, _ = recovered(grown, hub, left)
        return {
            "edges_recovered": share,
            "edges_either_way": either,
            "agreement_with_rebuild": agreement(grown, afresh),
            "one_s": one.total,
            "rebuild_s": rebuild.total,
        }


if __name__ == "__main__":
    sys.exit(main())
