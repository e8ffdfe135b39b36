"""Metadata of one component: who speaks for which weights, what it weighs in the search, and what edges say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.metadata import Metadata, claim_log_odds, declared_rows, metadata_prior, order_log_odds, upload_evidence
from store.records import Edge, Evidence

__all__ = ["CoreMetadata", "Weighing", "weigh"]


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """Dates and claims of m models."""

    created: NDArray[np.float64]
    """m: seconds since 1970, NaN where unknown."""
    declared: tuple[tuple[int, ...], ...]
    """m: the rows that each card names."""

    def take(self, rows: NDArray[np.int64]) -> CoreMetadata:
        """That of some of them, in rising order."""
        place = {int(row): at for at, row in enumerate(rows)}
        told = (self.declared[row] for row in rows.tolist())
        kept = (tuple(place[base] for base in bases if base in place) if bases else () for bases in told)
        return CoreMetadata(self.created[rows], tuple(kept))

    def prior(self) -> NDArray[np.float64]:
        """(m + 1) x m: `metadata_prior`."""
        return metadata_prior(self.created, self.declared)

    def costs(self, tails: NDArray[np.int64], heads: NDArray[np.int64]) -> NDArray[np.float64]:
        """E: what it adds to the cost of each edge; those to one head stand together, and are from all its possible
        parents."""
        days = (self.created[heads] - self.created[tails]) / 86_400
        costs = np.logaddexp(0.0, -order_log_odds(days)) - np.log(2.0)
        first = np.flatnonzero(np.diff(heads, prepend=-1))
        for at, end in zip(first.tolist(), [*first[1:].tolist(), len(heads)], strict=True):
            if declared := self.declared[int(heads[at])]:
                named = np.isin(tails[at:end], declared)
                costs[at:end] -= claim_log_odds(end - at, int(named.sum())) * named
        return np.asarray(costs)


@dataclass(frozen=True, slots=True)
class Weighing:
    """What metadata says of a component of n models; rows are those of its family.

    Parents are searched for among the core: the component without copies and derived models.
    """

    core: NDArray[np.int64]
    """m: the rows of the core, in rising order."""
    stand_in: NDArray[np.int64]
    """n: the row of the core that each model is, is a copy of, or was computed from."""
    created: NDArray[np.float64]
    """n: when these weights were first uploaded, by whomever; NaN where unknown."""
    declared: tuple[tuple[int, ...], ...]
    """n: the rows that the card names which speaks for each model's weights."""
    speaker: NDArray[np.int64]
    """n: whose card that is: the model's own, or where it says nothing that of a bit-equal copy."""

    def of_core(self) -> CoreMetadata:
        """Dates and claims of the core alone, in its rows."""
        return CoreMetadata(self.created[self.core], tuple(tuple(self._core_bases(row)) for row in self.core))

    def prior(self) -> NDArray[np.float64]:
        """(m + 1) x m: `metadata_prior` of the core."""
        return self.of_core().prior()

    def confirmed(self, parent: NDArray[np.int64]) -> NDArray[np.bool_]:
        """m: which models of the core have a card that names their `parent` (m rows of the core; -1 for the root)."""
        return np.array([int(up) in self._core_bases(row) for row, up in zip(self.core, parent, strict=True)], bool)

    def _core_bases(self, row: int) -> list[int]:
        """Rows *of the core*: whoever declares a quantised copy as the base has its original for a parent."""
        if not self.declared[row]:
            return []
        stands = {int(self.stand_in[base]) for base in self.declared[row]} - {row}
        return [int(at) for at in np.searchsorted(self.core, sorted(stands))]

    def told(self, family: Family, edges: Iterable[Edge], others: Mapping[int, int] | None = None) -> list[Edge]:
        """The edges of core and derived models with evidence of metadata. `others` is child -> parent, rows, of edges
        that are not among these.

        A parent that has bit-equal copies is replaced by the one that the child's card names, if it names one.
        """
        edges = list(edges)
        row_of = {int(model_id): row for row, model_id in enumerate(family.model_ids)}
        parent = {**(others or {}), **{row_of[edge.child_id]: row_of[edge.parent_id] for edge in edges}}
        return [self._told(family, edge, row_of[edge.child_id], parent) for edge in edges]

    def _told(self, family: Family, edge: Edge, child: int, parents: Mapping[int, int]) -> Edge:
        parent = parents[child]
        # What was computed from its parent was not searched for: metadata informs there, and has no vote.
        searched = self.stand_in[child] == child
        evidence = list(edge.evidence)
        days = float(self.created[child] - self.created[parent]) / 86_400
        order = float(order_log_odds(np.array(days)))
        if order:
            evidence.append(upload_evidence(days, order if searched else 0.0))
        bases = self.declared[child]
        if bases:
            odds = claim_log_odds(len(self.core), len(self._core_bases(child))) if searched else 0.0
            evidence.append(self._claim(family, child, parents, odds))
        equal = [row for row in bases if family.content_hashes[row] == family.content_hashes[parent]]
        if equal and parent not in equal:
            parent = equal[0]
        return replace(edge, parent_id=int(family.model_ids[parent]), evidence=tuple(evidence))

    def _claim(self, family: Family, child: int, parents: Mapping[int, int], odds: float) -> Evidence:
        bases = self.declared[child]
        speaker = int(self.speaker[child])
        card = "the card" if speaker == child else f"the card of its copy {family.names[speaker]}"
        supporting = [row for row in bases if self.stand_in[row] == self.stand_in[parents[child]]]
        if supporting:
            return Evidence("claim", 1.0, odds, f"{card} declares {family.names[supporting[0]]} as its base")
        above = set()
        at = parents[child]
        while at in parents:
            at = parents[at]
            above.add(int(self.stand_in[at]))
        named = ", ".join(family.names[row] for row in bases)
        says = f"{card} declares {named}, which the weights contradict"
        if any(int(self.stand_in[row]) in above for row in bases):
            says = f"{card} declares {named}, an ancestor; by the weights there is a model in between"
        return Evidence("claim", -1.0, -odds if odds else 0.0, says)


def weigh(
    family: Family, metadata: Metadata, copies: Mapping[int, Sequence[int]], derived: Mapping[int, int]
) -> Weighing:
    """What metadata says of a component.

    `copies` is original row -> rows of its copies, `derived` is row -> the row that it was computed from.
    """
    n = len(family)
    stand_in = np.arange(n)
    for original, rows in copies.items():
        # Most are themselves, and have no copies.
        if rows or original in derived:
            row = original
            while row in derived:
                row = derived[row]
            stand_in[[original, *rows]] = row
    core = np.array([row for row in copies if row not in derived], np.int64)
    created = family.created.copy()
    declared: list[tuple[int, ...]] = [()] * n
    speaker = np.arange(n)
    bases = declared_rows(family.names, metadata)
    for original, rows in copies.items():
        if not rows and not bases[original]:
            continue
        group = [original, *rows]
        if (dates := created[group][np.isfinite(created[group])]).size:
            created[group] = dates.min()
        for row in group:
            found = tuple(
                base
                for base in bases[row]
                # Its own copies and what was computed from it: no place to hang it on.
                if base not in group and (original in derived or stand_in[base] != original)
            )
            if found:
                declared[original], speaker[original] = found, row
                break
    return Weighing(core, stand_in, created, tuple(declared), speaker)
