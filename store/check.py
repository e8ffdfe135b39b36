"""Is a graph sound? Every requirement of the data model, looked up one by one. Reads only, and blocks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb

from store.errors import StopError
from store.format import SCHEMA_VERSION, SKETCH_VERSION
from store.generation import CURRENT, GraphFolder, open_generation
from store.leftovers import leftovers
from store.progress import Progress
from store.rules import broken, names_of, settled
from store.schema import TABLES
from store.shard_check import ShardFaults, check_shards

__all__ = [
    "Check",
    "Examined",
    "check_generation",
    "check_graph",
    "check_tables",
    "sound",
    "unreadable_tables",
]

State = Literal["ok", "note", "failed"]
_SHOWN: Final = 5
_HOLDS: Final = {
    "keys": "every reference has its row",
    "names": "names are unique among the live models of a source",
    "edges": "one current edge a child at most, between models that are there",
    "pairs": "measured pairs are of live models",
    "merges": "each merge has its parents, its edge's among them",
    "circles": "nobody is an own ancestor, merges included",
    "paths": "every path follows the current edges from the root",
    "components": "roots, depths and counts of members fit the paths",
    "places": "every live model has its place",
    "inferred": "every inferred ancestor has its children",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, and what is wrong with it. `note` is for what the next run or repair tidies up."""

    check: str
    state: State
    says: str
    offenders: tuple[str, ...] = ()
    """The first few, in words."""
    count: int = 0
    """Of all offenders."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The checks of a generation, and what its shards have said."""

    checks: tuple[Check, ...]
    faults: ShardFaults | None = None


def check_graph(path: Path | str, progress: Progress) -> Examined:
    """All checks of the current generation, while a run is going on or not.

    Where the database cannot be read, what lies in it is not checked. Raises StopError when there is no graph at all.
    """
    folder = GraphFolder(path)
    try:
        missing = folder.current() is None
    except StopError as error:
        return Examined((_failed(CURRENT, str(error), []),))
    if missing:
        raise StopError(f"{folder.path}: no graph here; make one with `modelkin index SOURCE --graph {folder.path}`")
    try:
        connection, generation = open_generation(folder)
    except (StopError, duckdb.Error) as error:
        return Examined((_failed(CURRENT, str(error).partition("\n")[0], []),))
    with connection:
        return check_generation(folder, connection, generation, progress)


def check_generation(
    folder: GraphFolder, connection: duckdb.DuckDBPyConnection, generation: int, progress: Progress
) -> Examined:
    """The checks of a generation that is open."""
    opened = Check(CURRENT, "ok", f"names generation {generation}, which opens")
    unreadable = unreadable_tables(connection)
    if unreadable:
        return Examined((opened, _failed("tables", "cannot be read", unreadable)))
    versions = Check("versions", "ok", f"schema {SCHEMA_VERSION}, sketches {SKETCH_VERSION}")
    readable = Check("tables", "ok", f"{len(TABLES)} tables, each read whole")
    faults = check_shards(connection, folder.path, progress)
    found = check_tables(connection, faults, update_done=settled(connection))
    shards = {row[0] for row in connection.execute("select distinct shard from models").fetchall()}
    left, why = leftovers(folder, generation, shards)
    last = _noted("leftovers", left, why)
    return Examined((opened, versions, readable, *found, last), faults)


def sound(checks: Sequence[Check]) -> bool:
    """Did nothing fail?"""
    return all(check.state != "failed" for check in checks)


def unreadable_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables that are missing or damaged: each is read whole, for DuckDB compares its checksums when it reads."""
    found = []
    for table in TABLES:
        try:
            connection.execute(f"select count(*), bit_xor(hash(t)) from {table} t").fetchall()
        except duckdb.Error as error:
            found.append(f"{table}: {str(error).partition(chr(10))[0]}")
    return found


def check_tables(connection: duckdb.DuckDBPyConnection, faults: ShardFaults, *, update_done: bool) -> list[Check]:
    """The checks of shards and tables, which a repair runs on what it has built, too."""
    rules = broken(connection, update_done=update_done)
    named = _wording(connection)
    checks = [
        _of(
            "shards",
            [f"{shard}: {why}" for shard, why in faults.shards.items()],
            f"{faults.seen:,} shards, {faults.with_checksum:,} of them with a checksum",
        ),
        _of(
            "sketches",
            named(list(faults.models.items())),
            f"{faults.sketches:,} sketches, all that the live models have in shards that are whole",
        ),
    ]
    if faults.history:
        rows = [f"{shard}: {why}" for shard, why in faults.history.items()]
        checks.append(_noted("old shards", rows, "only models that are gone refer to them"))
    waits = "" if update_done else " (the last run was a crawl: what waits for the next update is left out)"
    return [*checks, *(_of(name, named(rows), _HOLDS[name] + waits) for name, rows in rules.items())]


def _wording(connection: duckdb.DuckDBPyConnection) -> Callable[[list[tuple[int, str]]], list[str]]:
    """Puts offenders into words, those that are shown with their names."""

    def words(rows: list[tuple[int, str]]) -> list[str]:
        names = names_of(connection, [at for at, _ in rows[:_SHOWN]])
        return [f"{names.get(at, 'id')} ({at}): {why}" for at, why in rows]

    return words


def _of(name: str, offenders: list[str], holds: str) -> Check:
    return _failed(name, f"{len(offenders):,} wrong", offenders) if offenders else Check(name, "ok", holds)


def _failed(name: str, says: str, offenders: list[str]) -> Check:
    return Check(name, "failed", says, tuple(offenders[:_SHOWN]), max(1, len(offenders)))


def _noted(name: str, offenders: list[str], why: str) -> Check:
    return Check(name, "note" if offenders else "ok", why, tuple(offenders[:_SHOWN]), len(offenders))
