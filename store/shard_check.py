"""Are the shards whole, and does each live model have its sketches?"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from store.checksum import file_checksum, told_checksum
from store.errors import StopError
from store.progress import Progress
from store.shards import read_models

__all__ = ["ShardFaults", "check_shards"]


@dataclass(slots=True)
class ShardFaults:
    """What is wrong with the shards of live models, and with models in shards that are whole."""

    shards: dict[str, str] = field(default_factory=dict)
    """Shard -> why it cannot be used."""
    models: dict[int, str] = field(default_factory=dict)
    """Model id -> what is wrong with its sketches."""
    history: dict[str, str] = field(default_factory=dict)
    """Shard that only models refer to which are gone -> what is wrong with it. Nobody reads it any more."""
    seen: int = 0
    with_checksum: int = 0
    sketches: int = 0

    def lost(self, connection: duckdb.DuckDBPyConnection) -> dict[int, str]:
        """Live model id -> why its sketches are no good."""
        held = connection.execute(
            "select model_id, shard from live_models where list_contains(?, shard)", [list(self.shards)]
        ).fetchall()
        return {**self.models, **{model_id: self.shards[shard] for model_id, shard in held}}


def check_shards(connection: duckdb.DuckDBPyConnection, graph: Path, progress: Progress) -> ShardFaults:
    """Read every shard that a model refers to and compare it with its checksum and with the rows of its models."""
    live: dict[str, dict[int, int]] = defaultdict(dict)
    for shard, model_id, tensors, removed in connection.execute(
        "select shard, model_id, tensors, removed_run from models order by shard, model_id"
    ).fetchall():
        members = live[shard]
        if removed is None:
            members[model_id] = tensors
    faults = ShardFaults(seen=len(live))
    progress.start("checking shards", len(live))
    for shard, members in live.items():
        faults.with_checksum += told_checksum(shard) is not None
        try:
            rows = _verified(graph / shard)
        except StopError as error:
            (faults.shards if members else faults.history)[shard] = str(error)
        else:
            faults.models |= _compare(rows, members, shard)
            faults.sketches += sum(model_id in members for model_id, _ in rows)
        progress.advance(1, shard)
    progress.finish()
    return faults


def _verified(path: Path) -> list[tuple[int, str]]:
    """Rows of a shard that is as it was written. Raises StopError otherwise."""
    told = told_checksum(path.name)
    try:
        found = file_checksum(path) if told is not None else None
    except FileNotFoundError:
        raise StopError("is not there") from None
    except OSError as error:
        raise StopError(f"cannot be read ({error.strerror})") from error
    if found != told:
        raise StopError(f"has checksum {found}, its name says {told}")
    try:
        return read_models(path, whole=told is None)
    except StopError as error:
        raise StopError(str(error).removeprefix(f"{path}: ")) from error


def _compare(rows: list[tuple[int, str]], members: dict[int, int], shard: str) -> dict[int, str]:
    held = Counter(model_id for model_id, _ in rows)
    twice = {model_id for (model_id, _), count in Counter(rows).items() if count > 1}
    return {
        model_id: f"has {held[model_id]} sketches in {shard}, expected {tensors} of different tensors"
        for model_id, tensors in members.items()
        if held[model_id] != tensors or model_id in twice
    }
