"""One method, one set of models, one answer; from sketches in memory, so that any subset is solved by itself."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import peers
from benchmarks.accuracy.score import Found
from benchmarks.accuracy.truth import Truth, generalizing
from indexer.family import Family
from indexer.metadata import Metadata
from indexer.paper import solve_paper
from indexer.roots import WEIGHTS
from indexer.solve import Component, solve_component, split
from store.records import Edge

__all__ = ["PEERS", "Task", "solve", "subset"]

DAY_S: Final = 86_400.0

Peer = Callable[["Task", Family], peers.Forest | None]


@dataclass(frozen=True, slots=True)
class Task:
    """What a method is given. Mode `default` sees the families alone: clusters and stages are for the
    paper's method and the peers, the order of uploads for `mst-upload-order`."""

    families: tuple[Family, ...]
    truth: Truth
    order: Mapping[str, float] | None = None
    bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Model -> the base models that its card declares."""
    use_metadata: bool = False
    """Mode `default` may know declared bases, and the order of uploads, as if a day lay between any two."""
    infer: bool = True
    """Mode `default` may put ancestors into a tree that no model is."""
    dense: int | None = None
    """Mode `default` solves components of more models than this by neighbourhoods; as an update does where None."""
    root_weights: NDArray[np.float64] = field(default_factory=lambda: WEIGHTS)
    """By which mode `default` weighs what speaks for a root (`indexer.roots.FEATURES`)."""

    def clusters(self, family: Family) -> int:
        """The true number of clusters among the models of a family."""
        return len({self.truth.cluster[name] for name in family.names})

    def generalization(self, family: Family) -> NDArray[np.bool_]:
        """Length n: which models are of the generalization stage, roots labelled as their children are."""
        told = generalizing(self.truth)
        return np.array([name in told for name in family.names])

    def by_lora(self, family: Family) -> bool | None:
        """Whether all children of a family were tuned by LoRA; None where the truth says neither all nor none."""
        said = {self.truth.relation.get(name, "") == "lora" for name in family.names if name in self.truth.parents}
        known = any(name in self.truth.relation for name in family.names)
        return said.pop() if known and len(said) == 1 else None

    def uploaded(self, family: Family) -> NDArray[np.float64] | None:
        """Length n: the order of uploads; None when that of any model is not known."""
        if self.order is None or any(name not in self.order for name in family.names):
            return None
        return np.array([self.order[name] for name in family.names])

    def metadata(self, family: Family) -> Metadata | None:
        """What the cards of a family declare, where that may be used; all of them come from one source."""
        if not self.use_metadata:
            return None
        return Metadata(("",) * len(family), tuple(self.bases.get(name, ()) for name in family.names))


def _mst_upload_order(task: Task, family: Family) -> peers.Forest | None:
    order = task.uploaded(family)
    return None if order is None else peers.mst_upload_order(family, task.clusters(family), order)


PEERS: Final[dict[str, Peer]] = {
    "mst-upload-order": _mst_upload_order,
    "kurtosis-root": lambda task, family: peers.kurtosis_root(family, task.clusters(family)),
    "authors-code": lambda task, family: peers.authors_code(family, task.clusters(family), task.by_lora(family)),
}


def subset(families: Iterable[Family], models: Collection[str]) -> tuple[Family, ...]:
    """The families of some of the models, empty ones left out."""
    kept = set(models)
    rows = [(family, [row for row, name in enumerate(family.names) if name in kept]) for family in families]
    return tuple(family.take(at) for family, at in rows if at)


def solve(task: Task, mode: str) -> Found | None:
    """The answer of a mode (`default`, `paper`) or a peer; None where the peer needs what the task has not."""
    started = time.perf_counter()
    found = _default(task) if mode == "default" else _paper(task) if mode == "paper" else _peer(task, PEERS[mode])
    if found is None:
        return None
    return replace(found, seconds=time.perf_counter() - started)


def _default(task: Task) -> Found:
    parts = []
    for family in task.families:
        order = task.uploaded(family) if task.use_metadata else None
        dated = family if order is None else replace(family, created=order * DAY_S)
        for rows in split(dated):
            members = dated.take(rows)
            metadata = task.metadata(members)
            parts.append(
                (
                    members,
                    solve_component(
                        members, metadata, infer=task.infer, root_weights=task.root_weights, dense=task.dense
                    ),
                )
            )
    return _gathered(parts, confident=True)


def _paper(task: Task) -> Found:
    """Told what section 6 of the paper is told: the number of clusters, each model's training stage, and whether the
    set was tuned by LoRA."""
    return _gathered(
        (family.take(rows), component)
        for family in task.families
        for rows, component in solve_paper(
            family, task.clusters(family), task.generalization(family), lora=task.by_lora(family)
        )
    )


def _gathered(parts: Iterable[tuple[Family, Component]], *, confident: bool = False) -> Found:
    cluster: dict[str, int] = {}
    edges: dict[str, Edge] = {}
    parent: dict[str, str] = {}
    inferred: set[str] = set()
    merged: dict[str, set[str]] = defaultdict(set)
    stage: dict[str, str] = {}
    for label, (members, found) in enumerate(parts):
        names = dict(zip(members.model_ids.tolist(), members.names, strict=True))
        names |= {node.inferred_id: node.name for node in found.inferred}
        inferred |= {node.name for node in found.inferred}
        cluster |= dict.fromkeys(members.names, label)
        edges |= {names[edge.child_id]: edge for edge in found.edges}
        parent |= {names[edge.child_id]: names[edge.parent_id] for edge in found.edges}
        stage |= zip(members.names, found.stages, strict=False)
        for merge in found.merges:
            merged[names[merge.child_id]].add(names[merge.parent_id])
    return Found(
        parent,
        cluster,
        {child: edge.confidence for child, edge in edges.items()} if confident else None,
        {child: edge.relation for child, edge in edges.items()},
        {child: {e.cue: e.value for e in edge.evidence} for child, edge in edges.items()},
        {child: frozenset(parents) for child, parents in merged.items()} if confident else None,
        stage or None,
        inferred=frozenset(inferred),
    )


def _peer(task: Task, peer: Peer) -> Found | None:
    parent: dict[str, str] = {}
    cluster: dict[str, int] = {}
    for family in task.families:
        forest = peer(task, family)
        if forest is None:
            return None
        offset = len(cluster)
        cluster |= {name: offset + int(at) for name, at in zip(family.names, forest.labels, strict=True)}
        parent |= {family.names[child]: family.names[up] for child, up in enumerate(forest.parent.tolist()) if up >= 0}
    return Found(parent, cluster)
