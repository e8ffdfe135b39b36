"""A graph to do harm to, and to look at with `modelkin check` and `modelkin repair`."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from modelkin.repair import RepairReport, repair
from store.check import Check, check_graph
from store.generation import GraphFolder
from store.progress import SilentProgress
from tests.grown import grow, start
from tests.runs import Placed, answers, index, inferred
from tests.weights import save


class World(NamedTuple):
    """A source, its graph, and what the graph says. It holds a merge and an inferred ancestor."""

    source: Path
    graph: Path
    says: dict[str, Placed]


def make(folder: Path) -> World:
    """Two runs of a source."""
    source, graph = folder / "source", folder / "graph"
    root = start(1, layers=6, width=48)
    a, b = grow(root, 10, 0.1), grow(root, 20, 0.1)
    merge = {name: (w + b[name]) / 2 for name, w in a.items()}
    for name, weights in (("root", root), ("a", a), ("b", b), ("merge", merge)):
        save(source / "m" / name, weights)
    top = start(ord("d"), layers=2, width=40)
    gone = grow(top, 1, 0.1)
    save(source / "d" / "root", top)
    for i in range(4):
        if i:
            save(source / "d" / f"c{i}", grow(top, 10 * i + 1, 0.1))
        save(source / "d" / f"g{i}", grow(gone, 10 * i + 2, 0.1))
    index(source, graph)
    shutil.copytree(source / "d" / "c1", source / "d" / "late")
    save(source / "d" / "late", grow(top, 99, 0.1))
    index(source, graph)
    says = answers(graph)
    assert says["m/merge"].relation == "merge"
    assert len(inferred(graph)) == 1
    return World(source, graph, says)


def checks(graph: Path) -> dict[str, Check]:
    return {each.check: each for each in check_graph(graph, SilentProgress()).checks}


def failed(graph: Path) -> set[str]:
    return {name for name, each in checks(graph).items() if each.state == "failed"}


def mend(graph: Path, *, dry_run: bool = False) -> RepairReport:
    return repair(graph, dry_run=dry_run, progress=SilentProgress(), clock=lambda: datetime.now(UTC))


def change(graph: Path, *statements: str) -> None:
    with duckdb.connect(str(GraphFolder(graph).database(GraphFolder(graph).current() or 0))) as connection:
        for statement in statements:
            connection.execute(statement)


def files(graph: Path) -> dict[str, bytes]:
    return {str(path.relative_to(graph)): path.read_bytes() for path in graph.rglob("*") if path.is_file()}


NEGATIVE = "(select min(inferred_id) from inferred)"
CHILD = "(select model_id from models where name = 'm/a')"
MERGE = "(select model_id from models where name = 'm/merge')"
ROOT = "(select model_id from models where name = 'm/root')"
