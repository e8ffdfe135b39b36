"""Which models hold an adapter: what a child has beside its base, against what the adapter adds to that base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from indexer.from_sketches import sample_values
from store.records import TensorSketch
from store.shards import read_shard

__all__ = ["HELD", "AdapterMatch", "held_update", "match_adapters"]

HELD: Final = 0.5
"""Least cosine of a change with an update that it holds; independent changes have none, within a few hundredths."""


@dataclass(frozen=True, slots=True)
class AdapterMatch:
    """An adapter, its base, and a model trained from that base that holds it; None where none does."""

    adapter: str
    declared_base: str | None
    base: str | None
    fits: bool
    merged_into: str | None
    cosine: float | None
    """Of the model's change with the adapter's update, in the matrices that the adapter tunes."""
    share: float | None
    """How much of the update the change holds: 1 where it was merged as it is."""


def held_update(
    update: Mapping[str, TensorSketch], base: Mapping[str, TensorSketch], child: Mapping[str, TensorSketch]
) -> tuple[float, float]:
    """(cosine, slope) of child - base on the update, over the samples that all three have; sketches by tensor.

    Samples of a tensor are prefixes of one sequence of positions. (0, 0) where there are none, or nothing changed.
    """
    dot = own = moved = 0.0
    for name, sketch in update.items():
        others = base.get(name), child.get(name)
        if any(other is None or other.shape != sketch.shape for other in others):
            continue
        u, b, c = (sample_values(each) for each in (sketch, *others) if each is not None)
        size = min(len(u), len(b), len(c))
        if not size:
            continue
        u, change = u[:size], c[:size] - b[:size]
        weight = sketch.elements / size
        dot, own = dot + weight * float(u @ change), own + weight * float(u @ u)
        moved += weight * float(change @ change)
    return (dot / float(np.sqrt(own * moved)), dot / own) if own > 0 and moved > 0 else (0.0, 0.0)


def match_adapters(connection: duckdb.DuckDBPyConnection, graph: Path) -> list[AdapterMatch]:
    """Every adapter with each base that it declares and the models below that base which hold it, surest first.

    Compared are the models of which the base is a parent. Raises StopError when a shard cannot be read.
    """
    found: list[AdapterMatch] = []
    rows = connection.execute(
        """select v.adapter, v.declared_base, v.base, v.fits, a.model_id, a.shard, b.model_id, b.shard
           from adapters v join live_adapters a on a.name = v.adapter and a.source = v.source
           left join live_models b on b.name = v.base order by 1, 2, 8"""
    ).fetchall()
    for adapter, declared, base, fits, adapter_id, shard, base_id, base_shard in rows:
        held: list[tuple[float, float, str]] = []
        if fits:
            update, start = _sketches(graph, shard, adapter_id), _sketches(graph, base_shard, base_id)
            for name, child_id, child_shard in _children(connection, base_id):
                cosine, share = held_update(update, start, _sketches(graph, child_shard, child_id))
                if cosine >= HELD:
                    held.append((cosine, share, name))
        for cosine, share, name in sorted(held, key=lambda each: (-each[0], each[2])):
            found.append(AdapterMatch(adapter, declared, base, bool(fits), name, cosine, share))
        if not held:
            found.append(AdapterMatch(adapter, declared, base, bool(fits), None, None, None))
    return found


def _children(connection: duckdb.DuckDBPyConnection, base_id: int) -> Sequence[tuple[str, int, str]]:
    return connection.execute(
        """select m.name, m.model_id, m.shard from live_models m
           where m.model_id in (select child_id from current_edges where parent_id = $1
                                union select child_id from current_merges where parent_id = $1)
           order by m.name""",
        [base_id],
    ).fetchall()


def _sketches(graph: Path, shard: str, model_id: int) -> dict[str, TensorSketch]:
    return {sketch.tensor: sketch for _, sketches in read_shard(graph / shard, [model_id]) for sketch in sketches}
