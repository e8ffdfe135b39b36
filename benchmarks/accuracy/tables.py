"""Every table and figure of the MoTHer paper on VTHR, from sketches and from whole weights side by side.

    scripts/accuracy --mode paper --tables [--out docs] [--json]

The sets are read one after the other; of whole weights only what was measured of them is kept.
"""

from __future__ import annotations

import json as json_lines
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.accuracy import figure_panels
from benchmarks.accuracy.figures import Panel, draw
from benchmarks.accuracy.sets import collections
from benchmarks.accuracy.table_captions import FIGURES
from benchmarks.accuracy.table_distances import clustering, correlation
from benchmarks.accuracy.table_measurements import Measured, Ranks, measure, rank_workers
from benchmarks.accuracy.table_pages import markdown, show
from benchmarks.accuracy.table_recovery import constants, direction, same_recipe, smaller_trees, table_1
from benchmarks.accuracy.table_rows import Row, as_json
from benchmarks.accuracy.table_training import layer_types, other_scores, training_steps
from benchmarks.accuracy.table_triplets import triplets
from benchmarks.accuracy.whole_weights import ModelSet, read_set, sketch_family, whole_family
from indexer.family import Family

__all__ = ["SPLITS", "Results", "main", "tabulate"]

SPLITS: Final = (
    "ft", "lora-f", "lora-v", "bf16", "decay", "minilm-ft", "minilm-lora", "seeds", "checkpoints"
)  # fmt: skip
PAPERS_OWN: Final = ("ft", "lora-f", "lora-v")


@dataclass(slots=True)
class Results:
    """Rows of all tables, and the figures' panels by file name."""

    rows: list[Row] = field(default_factory=list)
    panels: dict[str, list[Panel]] = field(default_factory=dict)


def main(data: Path, seed: int, out: Path | None, json: bool) -> int:
    """Tabulate what lies in `data`/vthr/seed-N (it is made when nothing does), print it, and write it below `out`."""
    folders = _folders(data, seed)
    with rank_workers() as ranks:
        results = tabulate(folders, seed, ranks)
    if out is not None:
        write(results, seed, out)
    if json:
        for row in results.rows:
            print(json_lines.dumps(as_json(row)))
    else:
        show(results.rows, Console())
    return 0


def _folders(data: Path, seed: int) -> dict[str, Path]:
    root = data / "vthr" / f"seed-{seed}"
    if not any((root / split / "truth.csv").exists() for split in SPLITS):
        return {made.split: made.folder for made in collections([f"vthr/{split}" for split in SPLITS], seed, data)}
    return {split: root / split for split in SPLITS if (root / split / "truth.csv").exists()}


def tabulate(folders: Mapping[str, Path], seed: int, ranks: Ranks) -> Results:
    """All tables that the sets which are there allow."""
    results = Results()
    kept: list[Measured] = []
    for split in SPLITS:
        if split not in folders:
            print(f"{split}: not there, left out", file=sys.stderr, flush=True)
            continue
        models = read_set(folders[split])
        for source, make in (("weights", whole_family), ("sketch", sketch_family)):
            print(f"{split} {source}", file=sys.stderr, flush=True)
            family = make(models)
            if split == "checkpoints":
                results.rows += _of_training(models, family, source)
                if source == "weights":
                    results.panels |= _panels_of_training(models, family)
                continue
            measured = measure(split, source, models.truth, family, ranks if models.truth.lora else None)
            results.rows += _of_recovery(measured, seed)
            if split in PAPERS_OWN:
                kept.append(measured)
    order = {name: at for at, name in enumerate(SPLITS)}
    results.rows.sort(key=lambda row: order[row.split])
    if kept:
        results.panels[FIGURES["figure 2"]] = figure_panels.figure_2(kept)
        sizes = [row for row in results.rows if row.table == "figure 7"]
        results.panels[FIGURES["figure 7"]] = figure_panels.figure_7(sizes)
    return results


def _of_recovery(measured: Measured, seed: int) -> Iterator[Row]:
    if measured.split == "seeds":
        yield from same_recipe(measured)
        return
    yield from table_1(measured)
    if measured.lora:
        yield from table_1(measured, "l_ft", "LoRA with l_FT")
    yield from constants(measured)
    yield from direction(measured)
    if measured.split in PAPERS_OWN:
        if measured.split == "ft":
            yield from smaller_trees(measured, seed)
        yield from triplets(measured, seed)
        yield from correlation(measured)
        yield from clustering(measured, seed)


def _of_training(models: ModelSet, family: Family, source: str) -> Iterable[Row]:
    yield from training_steps(models, family, source)
    yield from other_scores(models, family, source)
    yield from layer_types(models, family, source)


def _panels_of_training(models: ModelSet, family: Family) -> dict[str, list[Panel]]:
    panels = {
        FIGURES["figure 3"]: figure_panels.figure_3(models, family),
        FIGURES["figure 14"]: figure_panels.figure_14(models, family),
        FIGURES["figure 19"]: figure_panels.figure_19(models, family),
    }
    return {name: found for name, found in panels.items() if found}


def write(results: Results, seed: int, out: Path) -> None:
    """`paper-tables.md` and one SVG a figure."""
    out.mkdir(parents=True, exist_ok=True)
    for name, panels in sorted(results.panels.items()):
        draw(panels, out / name)
    (out / "paper-tables.md").write_text(markdown(results.rows, seed, sorted(results.panels)))
