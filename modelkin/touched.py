"""What a run solved again, and why: table `touched` with names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modelkin.graph import ModelGraph

__all__ = ["TouchedTree", "touched_trees"]

_TOUCHED: Final = """
    select any_value(n.name), t.members, t.arrived, t.gone, t.reason
    from touched t join nodes n on n.node_id = t.root_id
    where t.run_id = {run}
    group by t.root_id, t.members, t.arrived, t.gone, t.reason
    order by t.members desc, 1
"""


@dataclass(frozen=True, slots=True)
class TouchedTree:
    """A Model Tree that a run solved; all others it left as they were."""

    root: str
    members: int
    arrived: int
    """Models that are new or have a new revision."""
    gone: int
    """Models that it, or what it fell from, has lost."""
    reason: str


def touched_trees(graph: ModelGraph, run: int) -> Iterator[TouchedTree]:
    """The trees that a run solved, largest first."""
    _, rows = graph.sql_rows(_TOUCHED.format(run=int(run)))
    return (TouchedTree(*row) for row in rows)
