"""One update: solve the components that new, changed or removed models touch, and write what differs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import duckdb
import numpy as np
from numpy.typing import NDArray

from indexer.family import Family, make_family
from indexer.metadata import Metadata
from indexer.paper import solve_paper
from indexer.solve import Component, solve_component, split
from store.lineage import (
    LiveModel,
    architecture_roles,
    close_inferred,
    declared_bases,
    live_models,
    read_sketches,
    replace_components,
    replace_pairs,
    setting,
    write_edges,
    write_inferred,
    write_merges,
)
from store.progress import Progress
from store.writer import GraphWriter

__all__ = ["Mode", "UpdateReport", "load_family", "load_metadata", "update"]

Mode = Literal["default", "paper"]
_TEXT: Final = {True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Counts of one update; `seconds` is wall time."""

    components_touched: int
    edges_added: int
    edges_closed: int
    seconds: float


def load_family(
    connection: duckdb.DuckDBPyConnection, graph: Path, architecture: str, models: list[LiveModel]
) -> Family:
    """The family of these models, with what their sketches say."""
    sketches = read_sketches(graph, models)
    return make_family(
        architecture,
        [(m.model_id, m.name, m.content_hash, m.created, sketches.get(m.model_id, ())) for m in models],
        architecture_roles(connection, architecture),
    )


def load_metadata(connection: duckdb.DuckDBPyConnection, architecture: str, models: list[LiveModel]) -> Metadata:
    """What the cards of these models declare, in their order."""
    bases = declared_bases(connection, architecture)
    return Metadata(tuple(m.source for m in models), tuple(bases.get(m.model_id, ()) for m in models))


def update(
    writer: GraphWriter, *, mode: Mode, progress: Progress, use_metadata: bool | None = None, infer: bool = True
) -> UpdateReport:
    """Bring edges and components up to date with the live models.

    `use_metadata` lets dates and declared bases weigh in; None keeps what the graph was last solved with (at first: yes
    if its last source was a Hub). `infer` lets trees hold ancestors that no model is (never in paper mode). A component
    is solved again when its members are not those that are stored, or when one of the three has changed. What is found
    for it depends on its members' sketches (and dates and cards: a model whose card has changed is another member)
    alone, so the graph equals a rebuild whatever the history.
    """
    started = monotonic()
    c = writer.connection
    settled = setting(c, "use_metadata")
    allowed = use_metadata
    if allowed is None:
        allowed = settled == "true" if settled else _last_source(c).startswith("hub:")
    chosen = {"mode": mode, "use_metadata": _TEXT[allowed], "inferred": _TEXT[infer]}
    everything = any(setting(c, key) != value for key, value in chosen.items())
    if everything:
        # Of a run that is killed halfway nothing may stay: the next one, however it is called, solves everything.
        with writer.transaction():
            c.executemany("insert or replace into settings values (?, ?)", [*({**chosen, "mode": ""}.items())])
    stored = _stored_members(c)
    live = live_models(c)
    gone = sorted(set(stored) - {m.model_id for m in live})
    # What dates were corrected of is solved as if it had just come.
    stale = _stale(c) - set(gone)
    stored = {model_id: root for model_id, root in stored.items() if model_id not in stale}
    by_architecture: dict[str, list[LiveModel]] = defaultdict(list)
    for model in live:
        by_architecture[model.architecture].append(model)
    touched_architectures = _touched(c, live, gone, stored, everything)

    touched = added = closed = 0
    progress.start("recovering Model Trees", len(touched_architectures))
    for architecture in sorted(touched_architectures):
        members = by_architecture.get(architecture, [])
        with writer.transaction():
            counts = _update_architecture(writer, architecture, members, chosen, stored, everything)
        touched, added, closed = (x + y for x, y in zip((touched, added, closed), counts, strict=True))
        progress.advance(1, members[0].name if members else "")
    with writer.transaction():
        closed += write_edges(c, writer.run_id, [], gone)[1]
        write_merges(c, writer.run_id, [], gone)
        replace_pairs(c, [], gone)
        replace_components(c, [], gone)
        closed += close_inferred(c, writer.run_id)
        c.execute("update settings set value = ? where key = 'mode'", [mode])
    progress.finish()
    return UpdateReport(touched, added, closed, monotonic() - started)


def _last_source(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute("select arg_max(source, run_id) from runs").fetchone()
    return row[0] or "" if row else ""


def _stored_members(connection: duckdb.DuckDBPyConnection) -> dict[int, int]:
    """Model id -> root id, as of the last update."""
    return dict(connection.execute("select model_id, root_id from components where model_id > 0").fetchall())


def _stale(connection: duckdb.DuckDBPyConnection) -> set[int]:
    """Models whose tree was found with other dates than they have now."""
    return {row[0] for row in connection.execute("select model_id from components where stale").fetchall()}


def _touched(
    connection: duckdb.DuckDBPyConnection,
    live: list[LiveModel],
    gone: list[int],
    stored: dict[int, int],
    everything: bool,
) -> set[str]:
    """Architectures with a model that came or went since the last update."""
    found = {m.architecture for m in live if everything or m.model_id not in stored}
    if gone:
        rows = connection.execute(
            "select distinct architecture from models where list_contains(?, model_id)", [gone]
        ).fetchall()
        found |= {row[0] for row in rows}
    return found


def _update_architecture(
    writer: GraphWriter,
    architecture: str,
    models: list[LiveModel],
    chosen: dict[str, str],
    stored: dict[int, int],
    everything: bool,
) -> tuple[int, int, int]:
    if not models:
        return 0, 0, 0
    c = writer.connection
    family = load_family(c, writer.folder.path, architecture, models)
    parts = split(family)
    members = _members(stored)
    solve = [part for part in parts if everything or _changed(family, part, stored, members)]
    found: list[tuple[NDArray[np.int64], Component]] = []
    if chosen["mode"] == "paper":
        # Clustering is global in the paper, and normalisation spans a tree: nothing is local to a component.
        found = solve_paper(family, clusters=len(parts))
    else:
        metadata = load_metadata(c, architecture, models) if chosen["use_metadata"] == _TEXT[True] else None
        infer = chosen["inferred"] == _TEXT[True]
        told = (None if metadata is None else metadata.take(part) for part in solve)
        found = [
            (part, solve_component(family.take(part), m, infer=infer)) for part, m in zip(solve, told, strict=True)
        ]
    placed = [int(i) for part, _ in found for i in family.model_ids[part]]
    inferred = [node for _, component in found for node in component.inferred]
    # All components in one go: each of these reads what the whole graph holds now.
    write_inferred(c, writer.run_id, inferred)
    added, closed = write_edges(
        c,
        writer.run_id,
        [edge for _, component in found for edge in component.edges],
        [*placed, *(node.inferred_id for node in inferred)],
    )
    write_merges(c, writer.run_id, [merge for _, component in found for merge in component.merges], placed)
    replace_pairs(c, [pair for _, component in found for pair in component.pairs], placed)
    trees = []
    stages: dict[int, str] = {}
    for part, component in found:
        ids = [int(i) for i in family.model_ids[part]]
        trees += _trees(ids, component)
        stages |= zip(ids, component.stages, strict=False)
    replace_components(c, trees, [], stages)
    return len(found), added, closed


def _members(stored: dict[int, int]) -> dict[int, set[int]]:
    """Root id -> the models of its tree, from model id -> root id."""
    members: dict[int, set[int]] = defaultdict(set)
    for model, root in stored.items():
        members[root].add(model)
    return members


def _changed(family: Family, part: NDArray[np.int64], stored: dict[int, int], members: dict[int, set[int]]) -> bool:
    """Is this component's set of members another one than what is stored?"""
    ids = {int(i) for i in family.model_ids[part]}
    roots = {stored.get(i) for i in ids}
    if len(roots) != 1:
        return True
    root = roots.pop()
    return root is None or members[root] != ids


def _trees(ids: list[int], component: Component) -> list[tuple[list[int], dict[int, int]]]:
    """Model Trees of a component: one in default mode, as many as there are roots in paper mode."""
    parent = {edge.child_id: edge.parent_id for edge in component.edges}
    members: dict[int, list[int]] = defaultdict(list)
    above: dict[int, dict[int, int]] = defaultdict(dict)
    for i in [*ids, *(node.inferred_id for node in component.inferred)]:
        root = i
        while root in parent:
            root = parent[root]
        if i in parent:
            above[root][i] = parent[i]
        if i > 0:
            members[root].append(i)
    return [(rows, above[root]) for root, rows in members.items()]
