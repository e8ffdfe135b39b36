"""Nearest relatives and likely parent of a model that is not in the graph, without adding it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np

from indexer.distance import RELATED, measure_pairs, normalised
from indexer.family import Family
from indexer.gathered import COLUMNS, gather_family
from indexer.kept_answers import recalled
from indexer.metadata import Metadata
from indexer.parts import known_models, part_of_one, vectors_path
from indexer.reading import load_metadata
from indexer.solve import solve_component, split
from store.lineage import LiveModel, architecture_roles, live_models, read_sketches, setting
from store.places import placed_models
from store.records import Model
from store.shards import sketch_table

__all__ = ["Relative", "identify"]

_NEW: int = 0
"""Model id of the model that is asked about: ids in a graph count from 1."""


@dataclass(frozen=True, slots=True)
class Relative:
    """A model of the graph that is related to the one asked about, and what it would be to it.

    `probability` is that of the relation in `direction`: ancestor means parent, descendant means child.
    """

    name: str
    distance: float
    correlation: float
    relation: str
    direction: str
    probability: float


def identify(connection: duckdb.DuckDBPyConnection, graph_path: Path, model: Model, *, limit: int) -> list[Relative]:
    """Relatives of `model` among the live models, likely parent first, then children, then by distance.

    The model is placed as an update would place it, so the answer is what `index` would say. Empty when nothing of
    its architecture is related. Raises StopError when a shard cannot be read.
    """
    created = model.created_at.timestamp() if model.created_at else float("nan")
    roles = architecture_roles(connection, model.architecture)

    def with_new(models: list[LiveModel]) -> Family:
        own = sketch_table([(_NEW, model.sketches)]).select(list(COLUMNS))
        rows = [(m.model_id, m.name, m.content_hash, m.created) for m in models]
        # Behind all others in any tie: a model of the graph is not a copy of one that is not.
        rows.append((_NEW, "\U0010ffff", model.content_hash, created))
        stored = {m.model_id for m in models if m.quantization} | ({_NEW} if model.quantization else set())
        family = gather_family(model.architecture, rows, [*read_sketches(graph_path, models, COLUMNS), own], roles)
        return replace(family, quantized=frozenset(stored))

    def load(ids: Sequence[int]) -> Family:
        return with_new(live_models(connection, model.architecture, ids))

    known = known_models(*placed_models(connection, model.architecture))
    if not len(known.ids):
        return []
    content = np.frombuffer(bytes.fromhex(model.content_hash), "<u8")
    members = part_of_one(vectors_path(graph_path, model.architecture), known, content, load)
    live = live_models(connection, model.architecture, members)
    family = with_new(live)
    part = np.arange(len(family))
    if members is None:
        part = next(rows for rows in split(family) if len(family) - 1 in rows)
    if len(part) == 1:
        return []
    inner = family.take(part)
    row = int(np.flatnonzero(inner.model_ids == _NEW)[0])
    others = np.array([i for i in range(len(inner)) if i != row], np.int64)
    pairs = measure_pairs(inner, normalised(inner), np.full(others.size, row), others)
    metadata = None
    if setting(connection, "use_metadata") == "true":
        graph = load_metadata(connection, model.architecture, live)
        own = tuple(sorted({claim.value for claim in model.claims if claim.field == "base_model"}))
        metadata = Metadata((*graph.sources, model.source), (*graph.bases, own)).take(part)
    # Ancestors that are not in the graph are no relatives to be named.
    stored = recalled(graph_path, set(inner.content_hashes))
    edges = solve_component(inner, metadata, infer=False, stored=stored).edges
    parent = next((e for e in edges if e.child_id == _NEW), None)
    children = {e.child_id: e for e in edges if e.parent_id == _NEW}
    found = []
    for at, other in enumerate(others):
        model_id = int(inner.model_ids[other])
        relation, direction, probability = "relative", "relative", 0.0
        if parent is not None and parent.parent_id == model_id:
            relation, direction, probability = parent.relation, "ancestor", parent.confidence
        elif parent is not None and parent.runner_up_id == model_id:
            probability = parent.runner_up_confidence or 0.0
            relation, direction = parent.relation, "ancestor"
        elif model_id in children:
            edge = children[model_id]
            relation, direction, probability = edge.relation, "descendant", edge.confidence
        if direction == "relative" and pairs.correlation[at] < RELATED:
            continue
        found.append(
            Relative(
                inner.names[other],
                float(pairs.distance[at]),
                float(pairs.correlation[at]),
                relation,
                direction,
                probability,
            )
        )
    rank = {"ancestor": 0, "descendant": 1, "relative": 2}
    found.sort(key=lambda r: (rank[r.direction], -r.probability, r.distance, r.name))
    return found[:limit]
