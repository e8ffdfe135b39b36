"""What the graph answers with: frozen rows with the names of their SQL columns, and a sequence of them.

Models are named as in the graph; one whose name two sources hold is named `source/name`, which every method
takes too. Times are UTC and aware.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from store.records import Evidence

__all__ = [
    "Ancestor",
    "AuditRow",
    "Claimed",
    "Descendant",
    "Edge",
    "Evidence",
    "Explanation",
    "Measured",
    "MergeParent",
    "ModelRow",
    "Parent",
    "Rows",
    "RunRow",
    "Sibling",
    "SkippedRow",
    "attributes_of",
    "row_of",
]

T = TypeVar("T")


class Rows(tuple[T, ...]):
    """A tuple of rows of one kind that reads as a table in a prompt and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        from modelkin.tables import preview

        return preview(self)

    def _repr_html_(self) -> str:
        from modelkin.html import table

        return table(self)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row, as pandas.DataFrame takes it."""
        from dataclasses import asdict

        return [asdict(row) for row in self]  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One step up. The edge is the one that leads from this ancestor down towards the model asked for."""

    generation: int
    """1 for the parent, 2 for its parent, and so on."""
    model: str
    relation: str | None
    distance: float | None
    confidence: float | None
    inferred: bool = False
    """No model of the graph, but an ancestor that distances between models tell of."""


@dataclass(frozen=True, slots=True)
class Descendant:
    """A model below, with the edge to its own parent."""

    generation: int
    """1 for a child, 2 for a grandchild, and so on."""
    model: str
    parent: str
    relation: str
    distance: float
    confidence: float
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another child of the same parent, with its edge to that parent."""

    model: str
    parent: str
    relation: str
    distance: float
    confidence: float
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class MergeParent:
    """One of the models that another was merged from."""

    parent: str
    coefficient: float


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent: the only one, or one of those that a model was merged from (view `parents`)."""

    model: str
    relation: str
    coefficient: float | None
    """Share of it in a merge; None where there was one parent."""
    main: bool
    """Whether the tree has the model below this parent."""
    confidence: float
    inferred: bool = False
    """It is no model of the graph, but an inferred ancestor."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A current edge: the measured parent of `child`."""

    parent: str
    child: str
    relation: str
    distance: float
    confidence: float
    runner_up: str | None
    runner_up_confidence: float | None
    since_run: int
    inferred: bool = False
    """The parent, or the child, is no model of the graph but an inferred ancestor."""
    merge_parents: tuple[MergeParent, ...] = ()
    """All parents of a merge, `parent` among them, by coefficient; empty for all that is no merge."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured between the model and another one, in either direction (table `pairs`)."""

    distance: float
    correlation: float
    shared: float
    equal: float
    rank: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A base that the model card declares, and what the weights say to it (view `audit`)."""

    claimed_parent: str
    verdict: str
    stated_in: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model hangs where it does."""

    model: str
    parent: str | None
    """None for the root of a tree."""
    root: str
    depth: int
    members: int
    """Models in its tree, itself included."""
    stage: str | None
    """Training that made it: generalization or specialization; None where it was not asked for."""
    relation: str | None
    distance: float | None
    confidence: float | None
    since_run: int | None
    evidence: tuple[Evidence, ...]
    measured: Measured | None
    runner_up: str | None
    runner_up_confidence: float | None
    runner_up_measured: Measured | None
    inferred: bool
    """It is itself no model of the graph, but an inferred ancestor."""
    parent_inferred: bool
    claims: tuple[Claimed, ...]
    merge_parents: tuple[MergeParent, ...] = ()
    """All parents of a merge, by coefficient; empty for all that is no merge."""

    def __str__(self) -> str:
        from modelkin.drawing import explanation_lines

        return "\n".join(explanation_lines(self))

    def _repr_html_(self) -> str:
        from modelkin.html import preformatted

        return preformatted(str(self))


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A declared parent beside the measured one; None and "missing" where none is declared.

    With "stricter license" nothing is claimed, and `measured_parent` is the ancestor whose license is stricter.
    """

    model: str
    claimed_parent: str | None
    measured_parent: str | None
    confidence: float | None
    verdict: str
    stated_in: str | None
    detail: str | None
    """The base's new name, a declared relation that was not measured, or the two licenses."""


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A live model: its latest revision. `root` and `depth` are None until an update has placed it."""

    name: str
    parent: str | None
    root: str | None
    depth: int | None
    stage: str | None
    """generalization or specialization."""
    architecture: str
    dtype: str
    parameters: int
    tensors: int
    bytes_total: int
    bytes_read: int
    created_at: datetime | None
    modified_at: datetime | None
    revision: str
    source: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """One time that a command wrote to the graph: the row of table `runs`."""

    run_id: int
    command: str
    source: str | None
    started_at: datetime
    finished_at: datetime | None
    status: str
    models_seen: int
    models_new: int
    models_changed: int
    models_removed: int
    models_skipped: int
    bytes_total: int
    bytes_read: int
    requests: int
    crawl_seconds: float
    update_seconds: float
    components_touched: int
    edges_added: int
    edges_closed: int
    mode: str | None
    version: str
    shortlist_recall: float | None


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """What was not ingested, and why: the row of table `skipped`."""

    run_id: int
    source: str
    name: str
    revision: str | None
    path: str | None
    scope: str
    reason: str
    message: str


def row_of(kind: type[T], values: Iterable[Any]) -> T:
    """A row of this kind from the values of a query's columns, in the order of its fields."""
    return kind(*map(_as_python, values))


def _as_python(value: Any) -> Any:
    """DuckDB's TIMESTAMP holds UTC without saying so; lists of structs here are always the parents of a merge."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return tuple(MergeParent(**each) for each in value) if isinstance(value, list) else value


def attributes_of(row: Any, without: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a row by name, but for some."""
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name not in without}
