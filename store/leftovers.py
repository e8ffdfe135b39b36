"""Files in a graph's folder that no generation needs: what killed runs left, and what does not belong there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import duckdb

from store.errors import StopError
from store.generation import CURRENT, KEPT_GENERATIONS, GraphFolder
from store.lock import LOCK, is_held

__all__ = ["leftovers", "remove_leftovers"]

_KNOWN: Final = (CURRENT, LOCK, "schedule.sqlite*", "shortlist/*.vectors", "answers/models.sqlite*", "answers/*.record")
_TEMPORARY: Final = ("copy.tmp", f"{CURRENT}.tmp", "building.duckdb.*", "shortlist/*.tmp", "answers/*.tmp")


def leftovers(folder: GraphFolder, generation: int, shards: Collection[str]) -> tuple[list[str], str]:
    """Files beside those of `generation` and its `shards`, relative to the graph, and what becomes of them.

    While a run is going on nothing is left over: what lies there may be its own.
    """
    held = is_held(folder.path)
    found = _beside(folder, generation, shards)
    try:
        moved = folder.current() != generation
    except StopError:
        moved = True
    # Asked again: a run may have begun while the files were listed.
    if held or moved or is_held(folder.path):
        return [], "a run is going on, and what it has written is not judged"
    if any(name.startswith("building.duckdb") for name in found):
        return found, "of an interrupted run; the next one goes on from it"
    if not found:
        return [], "nothing that a run left behind"
    return found, "the next run or `modelkin repair` removes what runs have left"


def _beside(folder: GraphFolder, generation: int, shards: Collection[str]) -> list[str]:
    kept = {path for pattern in _KNOWN for path in folder.path.glob(pattern)}
    kept |= {folder.database(generation - back) for back in range(KEPT_GENERATIONS)}
    kept |= {folder.path / shard for shard in shards}
    return sorted(
        path.relative_to(folder.path).as_posix()
        for path in folder.path.rglob("*")
        if path not in kept and path.is_file()
    )


def remove_leftovers(folder: GraphFolder, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Remove what runs have left beside the current generation; returns which files.

    `connection` reads that generation. A half-built one stays, with all that may be its own. Call with the lock held.
    """
    if folder.building.exists():
        return []
    removed = folder.remove_orphans(connection)
    for pattern in _TEMPORARY:
        for path in folder.path.glob(pattern):
            path.unlink(missing_ok=True)
            removed.append(path.relative_to(folder.path).as_posix())
    return sorted(removed)
