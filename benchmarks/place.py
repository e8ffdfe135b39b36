"""A synthetic Hub that grows: one model placed, one removed, a night of new ones, against a rebuild in the same run.

    scripts/bench place [--models N] [--new 3300] [--weights-only] [--full-size] [--folder PATH] [--json]
    scripts/bench place --rebuild-first ...

The Hub's forest is that of benchmarks/scale/forest.py (heavy-tailed families, one with a tenth of all models;
fine-tunes, LoRA, merges, casts, quantised and pruned models, copies; eight architectures). Its models are small, and
are sketched and written by the project's own code; with --full-size their sketches are as large as those of any real
model. Each has an upload date, which misleads for .27 %, and no card.

Every step runs in a fresh process and publishes a generation; `peak_mb` is the largest of all processes. Seconds leave
out making the sketches. With --folder all is kept there, and a bench that was stopped goes on where it stood: steps
that were done are told again, and the seconds of a step count all its tries.

`one_placement_s` is one model more in the largest family; a small family and none stand beside it.
`rebuild_s` is all models placed in a new graph, which they were written to in the opposite order. With --rebuild-first
that comes first, and the graph that grows begins as a copy of it from which the night's models were removed again: of
two builds of hours one is saved.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.scale.hub import SyntheticHub
from benchmarks.scale.kept import KeptFigures
from benchmarks.scale.memory import in_own_process
from benchmarks.scale.score import agreement, disk_mb, recovered
from benchmarks.scale.steps import Run, ancestors_cold_ms, ancestors_warm_ms, run_step


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench place", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000, help="models in the graph before the night")
    parser.add_argument("--new", type=int, default=3_300, help="models of a night; at most a third of the models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights-only", action="store_true", help="upload dates do not weigh in")
    parser.add_argument("--full-size", action="store_true", help="sketches as large as those of any real model")
    parser.add_argument("--folder", type=Path, help="keep the graph here")
    parser.add_argument("--rebuild-first", action="store_true", help="grow from the rebuilt graph, less the night")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.models < 200:
        parser.error("expected at least 200 models")
    with tempfile.TemporaryDirectory(prefix="modelkin-bench-") as temporary:
        new = min(options.new, options.models // 3)
        bench = _Bench(
            options.models, new, options.seed, not options.weights_only, options.full_size, options.rebuild_first
        )
        result = bench.measure((options.folder or Path(temporary)).absolute())
    if not options.json:
        for line in bench.lines:
            print(line)
    print(json.dumps(result))
    return 0


class _Bench:
    """The steps in order. Places below `models` are there at the start, the rest come one by one and in the night."""

    def __init__(
        self, models: int, new: int, seed: int, metadata: bool, full_size: bool, rebuild_first: bool = False
    ) -> None:
        self.models, self.new, self.seed, self.rebuild_first = models, new, seed, rebuild_first
        self.how = {"use_metadata": metadata, "full_size": full_size}
        self.hub = SyntheticHub(models + new, seed, full_size)
        self.peak = 0.0
        self.lines = [
            f"{'step':<22} {'models':>8} {'trees':>7} {'open':>7} {'place':>8} {'publish':>8} {'peak, MB':>9}"
        ]

    def measure(self, folder: Path) -> dict[str, float]:
        """All figures of the JSON line."""
        grown, afresh = folder / "grown", folder / "afresh"
        told = {"models": self.models, "new": self.new, "seed": self.seed, **self.how}
        if self.rebuild_first:
            told["rebuild_first"] = True
        self.kept = KeptFigures(folder / "steps.json", told)
        total = self.models + self.new
        chosen = self._one_by_one()
        removed = self._leaf(chosen["largest family"])
        present = [i for i in range(total) if i != removed]
        if self.rebuild_first:
            rebuild = self._run("rebuild", afresh, present[::-1])
            if not grown.exists():
                _copy(afresh, grown)
            self._run("night removed", grown, [removed], range(self.models, total))
        else:
            self._run("build", grown, range(self.models), resume=True)
        ones = {label: self._run(f"one, {label}", grown, [i]) for label, i in chosen.items()}
        self._run("one removed", grown, [], [removed])
        rest = [i for i in range(self.models, total) if i not in chosen.values()]
        night = self._run("night", grown, rest)
        if not self.rebuild_first:
            rebuild = self._run("rebuild", afresh, present[::-1])
        share, either, by_kind = recovered(grown, self.hub, present)
        self.lines += [f"{kind}: {100 * value:.2f} % of edges recovered" for kind, value in by_kind.items()]
        rng = np.random.default_rng(self.seed)
        names = [self.hub.name(int(i)) for i in rng.choice(present, 200, replace=False)]
        one, night_s, rebuild_s = (_total(run) for run in (ones["largest family"], night, rebuild))
        return {
            "models": self.models,
            "one_placement_s": round(one, 3),
            "one_small_family_s": round(_total(ones["small family"]), 3),
            "one_alone_s": round(_total(ones["alone"]), 3),
            "night_s": round(night_s, 2),
            "night_models": len(rest),
            "rebuild_s": round(rebuild_s, 2),
            "peak_mb": round(self.peak),
            "disk_mb": round(disk_mb(grown), 1),
            "ancestors_warm_ms": round(ancestors_warm_ms(grown, names), 3),
            "ancestors_cold_ms": round(ancestors_cold_ms(grown, names[:5]), 1),
            "edges_recovered": round(share, 5),
            "edges_either_way": round(either, 5),
            "agreement_with_rebuild": round(agreement(grown, afresh), 6),
        }

    def _run(
        self, label: str, graph: Path, add: Sequence[int], remove: Sequence[int] = (), resume: bool = False
    ) -> Run | None:
        print(f"{label}: {len(add):,} models", file=sys.stderr, flush=True)
        kept = self.kept.get(label)
        if kept is None:
            spent = graph.parent / f"{label.replace(', ', '-').replace(' ', '-')}.seconds"
            run, peak = in_own_process(
                run_step,
                graph,
                self.models + self.new,
                self.seed,
                list(add),
                remove,
                use_metadata=self.how["use_metadata"],
                resume=resume,
                full_size=self.how["full_size"],
                spent=spent,
            )
            kept = {"run": None if run is None else asdict(run), "peak": peak}
            self.kept.put(label, kept)
        self.peak = max(self.peak, kept["peak"])
        if kept["run"] is None:
            return None
        run = Run(**kept["run"])
        line = (
            f"{label:<22} {len(add) - len(remove):>8,} {run.components:>7,} {run.opened:>7.2f} "
            f"{run.before + run.updated:>8.2f} {run.published:>8.2f} {kept['peak']:>9.0f}"
        )
        self.lines.append(line)
        print(line, file=sys.stderr, flush=True)
        return run

    def _one_by_one(self) -> dict[str, int]:
        """One new model of each sort."""
        forest = self.hub.forest
        sizes = np.bincount(forest.family[: self.models], minlength=int(forest.family.max()) + 1)
        there = sizes[forest.family[self.models :]]
        trained = forest.kind[self.models :] <= 1
        sorts = {
            "largest family": (forest.family[self.models :] == 0) & trained,
            "small family": (there >= 2) & (there <= 50) & trained,
            "alone": there == 0,
        }
        return {label: self.models + int(np.flatnonzero(which)[0]) for label, which in sorts.items()}

    def _leaf(self, but: int) -> int:
        """A model of the largest family that has no children."""
        forest = self.hub.forest
        parents = {*forest.parent.tolist(), *forest.other.tolist()}
        members = np.flatnonzero((forest.family[: self.models] == 0) & (forest.kind[: self.models] == 1))
        return next(int(i) for i in members if i not in parents and i != but)


def _copy(graph: Path, target: Path) -> None:
    """A copy of a graph that is there whole or not at all."""
    beside = target.with_name(target.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(graph, beside)
    beside.rename(target)


def _total(run: Run | None) -> float:
    return run.total if run is not None else float("nan")


if __name__ == "__main__":
    sys.exit(main())
