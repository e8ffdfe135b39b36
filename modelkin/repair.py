"""Rebuild of a graph what can be rebuilt: on a new generation, which replaces the current one only if it is sound."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

import modelkin
from modelkin.nightly import Mode
from modelkin.tables import counted
from store.check import Check, Examined, check_generation, check_graph, check_tables, unreadable_tables
from store.errors import StopError
from store.generation import CURRENT, GraphFolder, check_schema
from store.leftovers import remove_leftovers
from store.lineage import setting
from store.mending import (
    forget_places,
    mend_keys,
    mend_names,
    models_without_architecture,
    rebuild_components,
    retire_lost,
)
from store.progress import Progress
from store.rules import settled
from store.shard_check import ShardFaults, check_shards
from store.writer import GraphWriter

__all__ = ["RepairReport", "repair"]

_SOLVE: Final = frozenset(("keys", "edges", "pairs", "merges", "circles", "places", "inferred"))
"""Checks that only the sketches can answer anew where they fail."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do. `generation` is the current one afterwards."""

    graph: str
    generation: int
    dry_run: bool
    did: tuple[str, ...]
    lost: int
    """Models whose sketches are lost, which the next run of their source reads again."""


@dataclass(slots=True)
class _Work:
    """What is to be done, from the checks that failed."""

    lost: dict[int, str] = field(default_factory=dict)
    keys: bool = False
    names: bool = False
    components: bool = False
    solve: bool = False

    def steps(self) -> list[str]:
        found = []
        if self.keys:
            found.append("rows that refer to nothing taken out")
        if self.names:
            found.append("of several live rows of one name the latest kept")
        if self.lost:
            whose = "whose sketches are lost, marked to be read again by the next run of its source"
            found.append(f"{counted(len(self.lost), 'model')} {whose}")
        if self.solve:
            found.append("edges and trees solved anew from the sketches")
        elif self.components:
            found.append("paths and trees rebuilt from the edges")
        return found


def repair(path: Path | str, *, dry_run: bool, progress: Progress, clock: Callable[[], datetime]) -> RepairReport:
    """Bring the graph to where `modelkin check` finds nothing wrong; with `dry_run`, only say what would be done.

    Raises StopError when there is no graph, when another process writes to it, when no generation can be read, or
    when something is wrong that cannot be rebuilt: then the graph stays as it is.
    """
    folder = GraphFolder(path)
    if not folder.generations():
        raise StopError(f"{folder.path}: no graph here; make one with `modelkin index SOURCE --graph {folder.path}`")
    if dry_run:
        generation, did = _readable_generation(folder)
        examined = _examine(folder, generation, progress)
    else:
        with folder.lock():
            generation, did = _point(folder)
        examined = check_graph(path, progress)
    work, faults = _planned(folder, generation, examined)
    did += work.steps()
    if not dry_run and work.steps():
        generation, did = _rebuilt(folder, work, faults, did, progress, clock)
    elif not dry_run:
        with folder.lock(), duckdb.connect(str(folder.database(generation)), read_only=True) as connection:
            did += [f"{name} removed, which nothing refers to" for name in remove_leftovers(folder, connection)]
    return RepairReport(str(folder.path), generation, dry_run, tuple(did), len(work.lost))


def _readable_generation(folder: GraphFolder) -> tuple[int, list[str]]:
    """The current generation if it can be read whole, else the newest that can, and what has to be done for it.

    Raises StopError when there is none, or when one was written by another schema version.
    """
    current = _current(folder)
    there = folder.generations()
    candidates = [n for n in (current,) if n in there] + [n for n in reversed(there) if n != current]
    for generation in candidates:
        if _opens(folder, generation):
            if generation == current:
                return generation, []
            return generation, [f"{CURRENT} set to generation {generation}, the newest that can be read"]
    raise StopError(
        f"{folder.path}: none of the generations {', '.join(map(str, there))} can be read; nothing was changed. "
        "Bring back a copy of the folder, or index the sources again into a new one"
    )


def _current(folder: GraphFolder) -> int | None:
    with suppress(StopError):
        return folder.current()
    return None


def _goes_on(folder: GraphFolder) -> bool:
    """Can the half-built generation be read?"""
    try:
        # For writing, which replays the log of what was committed last.
        with duckdb.connect(str(folder.building)) as connection:
            return not unreadable_tables(connection)
    except duckdb.Error:
        return False


def _opens(folder: GraphFolder, generation: int) -> bool:
    try:
        with duckdb.connect(str(folder.database(generation)), read_only=True) as connection:
            check_schema(connection, folder.path)
            return not unreadable_tables(connection)
    except duckdb.Error:
        return False


def _point(folder: GraphFolder) -> tuple[int, list[str]]:
    """Lead CURRENT to a generation that can be read; what cannot is kept under another name, for whoever mends it."""
    with suppress(StopError):
        folder.finish_swap(folder.current() or 0)
    generation, did = _readable_generation(folder)
    if folder.building.exists() and not _goes_on(folder):
        folder.discard_building()
        did.append(f"{folder.building.name} removed, which a killed run left and which cannot be read")
    if generation != _current(folder):
        for newer in [n for n in folder.generations() if n > generation]:
            kept = folder.database(newer).with_suffix(".duckdb.damaged")
            folder.database(newer).replace(kept)
            did.append(f"generation {newer} cannot be read and is kept as {kept.name}")
        folder.point_to(generation)
    return generation, did


def _examine(folder: GraphFolder, generation: int, progress: Progress) -> Examined:
    with duckdb.connect(str(folder.database(generation)), read_only=True) as connection:
        return check_generation(folder, connection, generation, progress)


def _planned(folder: GraphFolder, generation: int, examined: Examined) -> tuple[_Work, ShardFaults]:
    assert examined.faults is not None
    with duckdb.connect(str(folder.database(generation)), read_only=True) as connection:
        return _plan(connection, examined.checks, examined.faults), examined.faults


def _plan(connection: duckdb.DuckDBPyConnection, checks: Collection[Check], faults: ShardFaults) -> _Work:
    """What the failed checks ask for."""
    failed = {check.check for check in checks if check.state == "failed"}
    return _Work(
        lost={**models_without_architecture(connection), **faults.lost(connection)},
        keys="keys" in failed,
        names="names" in failed,
        components=bool(failed & {"paths", "components"}),
        solve=bool(failed & _SOLVE),
    )


def _rebuilt(
    folder: GraphFolder,
    work: _Work,
    faults: ShardFaults,
    did: list[str],
    progress: Progress,
    clock: Callable[[], datetime],
) -> tuple[int, list[str]]:
    from indexer.update import update

    version = modelkin.__version__
    with GraphWriter(folder.path, command="repair", source=None, version=version, clock=clock) as writer:
        c = writer.connection
        try:
            if writer.resumed:
                # What a killed run left is built upon, and may be wrong in other places.
                faults = check_shards(c, folder.path, progress)
                work = _plan(c, check_tables(c, faults, update_done=settled(c)), faults)
                did = [*did[: len(did) - len(work.steps())], *work.steps()]
            else:
                # A repair that is killed is begun afresh: nothing goes on from a half-mended graph.
                c.execute("update settings set value = 'repair' where key = 'base_generation'")
            _mend(writer, work)
            mode: Mode = "paper" if setting(c, "mode") == "paper" else "default"
            report = update(writer, mode=mode, progress=progress, infer=setting(c, "inferred") != "false")
            writer.finish_run(
                mode=mode,
                models_removed=len(work.lost),
                models_skipped=len(work.lost),
                components_touched=report.components_touched,
                edges_added=report.edges_added,
                edges_closed=report.edges_closed,
                shortlist_recall=report.shortlist_recall,
                update_seconds=report.seconds,
            )
            _expect_sound(folder, c, faults)
        except (StopError, duckdb.Error):
            if not writer.resumed:
                c.close()
                folder.discard_building()
            raise
        return writer.publish(), did


def _mend(writer: GraphWriter, work: _Work) -> None:
    c = writer.connection
    with writer.transaction():
        if work.keys:
            mend_keys(c)
        if work.names:
            mend_names(c, writer.run_id)
        if work.lost:
            retire_lost(c, writer.run_id, work.lost)
        if work.solve:
            forget_places(c, writer.run_id)
        elif work.components:
            rebuild_components(c)


def _expect_sound(folder: GraphFolder, connection: duckdb.DuckDBPyConnection, faults: ShardFaults) -> None:
    live = {row[0] for row in connection.execute("select distinct shard from live_models").fetchall()}
    left = replace(faults, shards={shard: why for shard, why in faults.shards.items() if shard in live}, models={})
    failed = [check for check in check_tables(connection, left, update_done=True) if check.state == "failed"]
    if failed:
        what = "; ".join(f"{check.check}: {', '.join(check.offenders)}" for check in failed)
        raise StopError(
            f"{folder.path}: what is wrong cannot all be rebuilt ({what}); the graph was left as it is. "
            "Index its sources again into a new folder"
        )
