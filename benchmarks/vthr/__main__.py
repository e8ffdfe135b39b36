"""A small VTHR (ViT Tree Heritage Recovery dataset), trained on a CPU.

    scripts/vthr [--to DIR] [--seed N] [--sets NAME ...] [--jobs N] [--roots N] [--steps-scale F]

Five Vision Transformers are pre-trained in five ways on drawn pictures; each set is a forest of their descendants:
DIR/SET/TREE/mNN/model.safetensors, the truth in DIR/SET/truth.csv (written when the set is complete) and a possible
order of upload in DIR/SET/order.csv. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.vthr.plans import VISION
from benchmarks.vthr.pretraining import WAYS
from benchmarks.vthr.schedule import all_trees, language_sets, run
from benchmarks.vthr.shelf import write
from benchmarks.vthr.splits import Setting


def default_folder(seed: int) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MODELKIN_CACHE") or cache / "modelkin") / "vthr" / f"seed-{seed}"


def main(arguments: Sequence[str] | None = None) -> int:
    names = [*VISION, *language_sets()]
    parser = argparse.ArgumentParser(
        prog="scripts/vthr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="default: modelkin's cache, vthr/seed-N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    parser.add_argument("--roots", type=int, choices=range(1, len(WAYS) + 1), default=len(WAYS))
    parser.add_argument("--steps-scale", type=float, default=1.0, help="cut all training short, as for a test")
    options = parser.parse_args(arguments)
    to = options.to or default_folder(options.seed)
    made_with = {"seed": options.seed, "roots": options.roots, "steps_scale": options.steps_scale}
    settings = to / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != made_with:
        print(f"error: {to} was made with {settings.read_text()}; give another --to", file=sys.stderr)
        return 2
    write(settings, json.dumps(made_with).encode())
    run(Setting(to, options.seed, options.steps_scale), options.sets, all_trees(options.roots), options.jobs)
    print(to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
