"""How much of the true descent comes out of the weights, with direction, clusters and calibration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.printing import rounded, show, show_pools
from benchmarks.accuracy.relations import relation_row, show_relations
from benchmarks.accuracy.reliability import Judged, draw, pooled, summary
from benchmarks.accuracy.score import judged, score
from benchmarks.accuracy.sets import DEFAULT_SETS, Collection, collections, default_data
from benchmarks.accuracy.sketching import sketched
from benchmarks.accuracy.solving import PEERS, Task, solve, subset
from benchmarks.accuracy.truth import read_order, read_truth, restrict
from store.errors import ModelkinError, StopError


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/accuracy", description=__doc__)
    parser.add_argument(
        "--mode", choices=("default", "paper"), default=None,
        help="default: modelkin's own answer, weights only; paper: that of MoTHer, told clusters and stages",
    )  # fmt: skip
    parser.add_argument("--peers", action="store_true", help=f"also: paper, {', '.join(PEERS)}")
    parser.add_argument("--seed", type=int, default=1, help="of the sets that are trained here")
    parser.add_argument(
        "--sets", nargs="+", default=list(DEFAULT_SETS), metavar="NAME",
        help="vthr, trained, published, a split such as vthr/ft, or a path to a folder with truth.csv",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=None, help="in place of modelkin's cache folder")
    parser.add_argument("--use-metadata", action="store_true", help="upload order and claims count as evidence")
    parser.add_argument(
        "--inferred", action=argparse.BooleanOptionalAction, default=True, help="infer ancestors that no model is"
    )
    parser.add_argument(
        "--neighbourhoods", type=int, metavar="N", help="solve components of more than N models as large ones are"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--reliability", type=Path, metavar="SVG", help="draw confidence against the share right")
    parser.add_argument(
        "--fit", action="store_true",
        help="only: fit the weights that roots are found by, and measure all with one family left out",
    )  # fmt: skip
    parser.add_argument("--relations", action="store_true", help="only: are the types of edges right?")
    parser.add_argument(
        "--tables", action="store_true",
        help="in place of a line a set: every table and figure of the MoTHer paper on vthr (table 1 and its ablation, "
        "table 4, similar models, triplets, figures 2, 3, 7, 14, 19), from whole weights and from sketches side by "
        "side; implies --mode paper; takes a few minutes",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="where --tables writes paper-tables.md and an SVG a figure",
    )
    return parser


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    """The options, the mode filled in. What --tables would leave aside is an error, as is --out without it."""
    if options.tables:
        aside = {
            "--mode default": options.mode == "default",
            "--peers": options.peers,
            "--sets": options.sets != list(DEFAULT_SETS),
            "--use-metadata": options.use_metadata,
            "--reliability": options.reliability is not None,
            "--relations": options.relations,
            "--fit": options.fit,
        }
        if wrong := [name for name, given in aside.items() if given]:
            parser.error(f"--tables goes without {', '.join(wrong)}")
    elif options.out is not None:
        parser.error("--out is for --tables")
    options.mode = options.mode or ("paper" if options.tables else "default")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    parser = arguments_parser()
    options = _checked(parser, parser.parse_args(arguments))
    data = (options.data or default_data()).expanduser().absolute()
    try:
        if options.tables:
            from benchmarks.accuracy import tables

            return tables.main(data, options.seed, options.out, options.json)
        if options.fit:
            from benchmarks.accuracy import fitting

            found = list(collections(options.sets, options.seed, data))
            return fitting.report(found, options.reliability, Console())
        return (_relations if options.relations else _measure)(options, data)
    except ModelkinError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _measure(options: argparse.Namespace, data: Path) -> int:
    modes = list(dict.fromkeys([options.mode, *(["default", "paper", *PEERS] if options.peers else [])]))
    if options.reliability and "default" not in modes:
        raise StopError("--reliability needs confidences, which only --mode default has")
    rows = []
    confidences: list[tuple[str, str, Judged]] = []
    for collection in collections(options.sets, options.seed, data):
        for split, task in tasks(collection):
            for mode in modes:
                print(f"{collection.set} {split} {mode}", file=sys.stderr, flush=True)
                allowed = replace(
                    task, use_metadata=options.use_metadata, infer=options.inferred, dense=options.neighbourhoods
                )
                found = solve(allowed, mode)
                if found is None:
                    continue
                row = rounded({"set": collection.set, "split": split, "mode": mode, **score(task.truth, found)})
                rows.append(row)
                if mode == "default" and split == collection.split:
                    confidences.append((collection.set, split, judged(task.truth, found)))
                if options.json:
                    print(json.dumps(row), flush=True)
    if not options.json:
        show(rows, Console())
    if options.reliability:
        pools = pooled(confidences)
        # What --json prints on standard output is one line a set, split and mode.
        show_pools(summary(pools), Console(stderr=options.json))
        draw(pools, options.reliability)
    return 0


def _relations(options: argparse.Namespace, data: Path) -> int:
    rows = []
    for collection in collections(options.sets, options.seed, data):
        print(f"{collection.set} {collection.split} relations", file=sys.stderr, flush=True)
        *_, (split, task) = tasks(collection)
        found = solve(replace(task, use_metadata=options.use_metadata), "default")
        assert found is not None
        named = {"set": collection.set, "split": split}
        rows.append({**named, **relation_row(task.truth, found, collection.folder)})
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
    if not options.json:
        show_relations(rows, Console())
    return 0


def tasks(collection: Collection) -> Iterator[tuple[str, Task]]:
    """Each tree alone, where the truth names several, then the whole graph."""
    sketches = sketched(collection.folder, collection.graph)
    truth = read_truth(collection.folder, sketches.models)
    order = read_order(collection.folder)
    names = sorted(set(truth.tree.values()))
    for name in names if len(names) > 1 else ():
        models = [model for model in truth.models if truth.tree.get(model) == name]
        alone = restrict(truth, models)
        if alone.parents:
            yield f"{collection.split}/{name}", Task(subset(sketches.families, models), alone, order, sketches.bases)
    yield collection.split, Task(sketches.families, truth, order, sketches.bases)


if __name__ == "__main__":
    sys.exit(main())
