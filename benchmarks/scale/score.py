"""How much of the true forest a graph has, and whether two graphs give the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.scale.forest import KINDS
from benchmarks.scale.hub import SyntheticHub
from store.generation import open_reader

__all__ = ["agreement", "disk_mb", "recovered"]


def recovered(graph: Path, hub: SyntheticHub, present: Collection[int]) -> tuple[float, float, dict[str, float]]:
    """Share of the true edges among the `present` models that the graph has, the same in either direction, and by kind
    of child.

    Bit-equal models count as one, since weights cannot tell which is the original: an edge is right when it leads to a
    parent with the true parent's content, and a copy's when it leads to its like. Of a merge either parent will do.
    """
    with open_reader(graph) as connection:
        content = dict(connection.execute("select name, content_hash from live_models").fetchall())
        rows = connection.execute(
            """select c.name, c.content_hash, p.content_hash
               from current_edges e join nodes c on c.node_id = child_id join nodes p on p.node_id = parent_id"""
        ).fetchall()
    above: dict[str, set[str | None]] = {}
    for _, child, parent in rows:
        above.setdefault(child, set()).add(parent)
    right: Counter[str] = Counter()
    either = 0
    total: Counter[str] = Counter()
    forest = hub.forest
    for i in present:
        parents = [int(p) for p in (forest.parent[i], forest.other[i]) if p >= 0 and hub.name(int(p)) in content]
        if not parents:
            continue
        kind = KINDS[int(forest.kind[i])]
        wanted = {content[hub.name(p)] for p in parents}
        own = content[hub.name(i)]
        found = bool(wanted & above.get(own, set()))
        right[kind] += found
        either += found or any(own in above.get(parent, set()) for parent in wanted)
        total[kind] += 1
    edges = max(1, sum(total.values()))
    return (
        sum(right.values()) / edges,
        either / edges,
        {kind: right[kind] / total[kind] for kind in KINDS if total[kind]},
    )


def agreement(graph: Path, other: Path) -> float:
    """Share of models that have the same place in both: parent, relation, distance, confidence, runner-up, root."""
    one, two = _places(graph), _places(other)
    return sum(one[name] == two.get(name) for name in one) / max(1, len(one | two))


def _places(graph: Path) -> dict[str, tuple[Any, ...]]:
    with open_reader(graph) as connection:
        return {
            name: tuple(place)
            for name, *place in connection.execute(
                """select m.name, p.name, e.relation, e.distance, e.confidence, u.name, r.name, c.depth, c.members
                   from live_models m join components c using (model_id) join nodes r on r.node_id = c.root_id
                   left join current_edges e on e.child_id = m.model_id
                   left join nodes p on p.node_id = e.parent_id left join nodes u on u.node_id = e.runner_up_id"""
            ).fetchall()
        }


def disk_mb(graph: Path) -> float:
    """Size of all files of a graph, both generations that are kept included, in MB (2**20 bytes)."""
    return sum(path.stat().st_size for path in graph.rglob("*") if path.is_file()) / 2**20
