"""What changed between two runs: edges that appeared, vanished, or lead elsewhere, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from store.errors import StopError
from store.history import AsOf, runs_of, settle_run

__all__ = ["ChangedEdge", "Hung", "Known", "changes", "reasons"]


@dataclass(frozen=True, slots=True)
class ChangedEdge:
    """The edge above a model, after an earlier and after a later run; None where there was none."""

    change: str
    """appeared, vanished, parent, relation, or evidence (only the confidence or the runner-up is another)."""
    child: str
    parent_before: str | None
    parent_after: str | None
    relation_before: str | None
    relation_after: str | None
    confidence_before: float | None
    confidence_after: float | None
    why: str
    """Reasons, the weightiest first: model new, model removed, model revised, parent arrived, parent removed, parent
    revised, metadata changed, mode changed; else what the evidence says now."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model or inferred ancestor as it was after one run."""

    content: str
    bases: tuple[str, ...]
    """What its card declares."""
    placed: bool
    """An update had placed it in a tree."""


@dataclass(frozen=True, slots=True)
class Hung:
    """An edge as it was after one run, and its parent after both runs (None where it was not in the graph)."""

    parent: str
    relation: str
    confidence: float
    runner_up: str | None
    told: bool
    """Dates or cards are among its evidence."""
    parent_before: Known | None
    parent_after: Known | None


_CHANGES: Final = """
    with
    {known_before},
    {known_after},
    several as (
        select name from (select name, source from before_nodes union select name, source from after_nodes)
        group by name having count(*) > 1
    ),
    called as (
        select
            node_id, name, source, inferred,
            if(name in (from several) and source is not null, source || '/' || name, name) as label
        from nodes
    ),
    {held_before},
    {held_after}
    select
        coalesce(a.child, b.child) as child, coalesce(a.inferred, b.inferred) as inferred,
        b.edge as before, a.edge as after, cb.known, ca.known
    from before_edges b
    full join after_edges a on a.name = b.name and a.source is not distinct from b.source
    left join before_nodes cb
        on cb.name = coalesce(a.name, b.name) and cb.source is not distinct from coalesce(a.source, b.source)
    left join after_nodes ca
        on ca.name = coalesce(a.name, b.name) and ca.source is not distinct from coalesce(a.source, b.source)
    where a.held is distinct from b.held or ($every and a.weighed is distinct from b.weighed)
    order by child
"""

_KNOWN: Final = """
    {when}_nodes as (
        select
            name, source,
            {{
                'content': content_hash,
                'bases': coalesce((
                    select list(k.value order by k.value) from claims k
                    where k.model_id = m.model_id and k.field = 'base_model'
                ), []),
                'placed': exists (
                    from placements p where p.model_id = m.model_id
                    and p.valid_from_run <= ${when} and coalesce(p.valid_to_run > ${when}, true)
                )
            }} as known
        from models m
        where added_run <= ${when} and coalesce(removed_run > ${when}, true)
        union all
        select name, null, {{'content': name, 'bases': []::varchar[], 'placed': true}}
        from inferred
        where valid_from_run <= ${when} and coalesce(valid_to_run > ${when}, true)
    )
"""

_HELD: Final = """
    {when}_edges as (
        select
            c.name, c.source, c.label as child, c.inferred,
            {{'name': p.name, 'source': p.source, 'relation': e.relation}} as held,
            {{'confidence': e.confidence, 'runner_up': u.label}} as weighed,
            {{
                'parent': p.label, 'relation': e.relation, 'confidence': e.confidence, 'runner_up': u.label,
                'told': len(list_filter(e.evidence, lambda each: each.cue in ('claim', 'upload_order'))) > 0,
                'parent_before': pb.known, 'parent_after': pa.known
            }} as edge
        from edges e
        join called c on c.node_id = e.child_id
        join called p on p.node_id = e.parent_id
        left join called u on u.node_id = e.runner_up_id
        left join before_nodes pb on pb.name = p.name and pb.source is not distinct from p.source
        left join after_nodes pa on pa.name = p.name and pa.source is not distinct from p.source
        where e.valid_from_run <= ${when} and coalesce(e.valid_to_run > ${when}, true)
    )
"""

_MODE: Final = "select arg_max(mode, run_id) from runs where status = 'done' and mode is not null and run_id <= ?"


def changes(
    connection: duckdb.DuckDBPyConnection, before: AsOf, after: AsOf, now: datetime, *, every: bool = False
) -> Iterator[ChangedEdge]:
    """The edges that differ between two runs, by child; models are told apart by name and source.

    `every` adds edges of which only the confidence or the runner-up differs. Raises StopError where `settle_run`
    does, and when `before` is the later run.
    """
    runs = runs_of(connection)
    between = {"before": settle_run(runs, before, now), "after": settle_run(runs, after, now)}
    if between["before"] > between["after"]:
        raise StopError(f"run {between['before']} is later than run {between['after']}: give the earlier one first")
    query = _CHANGES.format(
        **{f"known_{when}": _KNOWN.format(when=when) for when in between},
        **{f"held_{when}": _HELD.format(when=when) for when in between},
    )
    modes = [connection.execute(_MODE, [run]).fetchone() for run in between.values()]
    mode = modes[1][0] if modes[0] != modes[1] and modes[0] and modes[1] else None
    rows = connection.execute(query, {**between, "every": every}).fetchall()
    for child, inferred, *edges, child_before, child_after in rows:
        old, new = map(_hung, edges)
        yield ChangedEdge(
            change=_change(old, new),
            child=child,
            parent_before=old.parent if old else None,
            parent_after=new.parent if new else None,
            relation_before=old.relation if old else None,
            relation_after=new.relation if new else None,
            confidence_before=old.confidence if old else None,
            confidence_after=new.confidence if new else None,
            why="; ".join(reasons(old, new, _known(child_before), _known(child_after), inferred=inferred, mode=mode)),
        )


def _known(row: dict[str, Any] | None) -> Known | None:
    return None if row is None else Known(row["content"], tuple(row["bases"]), row["placed"])


def _hung(row: dict[str, Any] | None) -> Hung | None:
    if row is None:
        return None
    return Hung(**{**row, "parent_before": _known(row["parent_before"]), "parent_after": _known(row["parent_after"])})


def _change(old: Hung | None, new: Hung | None) -> str:
    if old is None or new is None:
        return "vanished" if new is None else "appeared"
    if old.parent != new.parent:
        return "parent"
    return "relation" if old.relation != new.relation else "evidence"


def reasons(
    old: Hung | None,
    new: Hung | None,
    before: Known | None,
    after: Known | None,
    *,
    inferred: bool = False,
    mode: str | None = None,
) -> list[str]:
    """Why the edge above a model is another one, the weightiest reason first; `old` or `new` is an edge.

    `before` and `after` are the model itself, `mode` the mode of the later run where the earlier one had another.
    What is in the graph at both runs, unchanged, can have moved only because of others in its tree: then the evidence
    is another, and what it says is the reason.
    """
    if before is None or after is None:
        kind = "ancestor" if inferred else "model"
        if before is None and after is None:
            # Its edge is still there: a crawl has seen it go, and no update has.
            return [f"{kind} removed"]
        return [f"{kind} {'inferred' if inferred else 'new'}" if before is None else _gone(kind, inferred)]
    found = []
    if before.content != after.content:
        found.append("model revised")
    if new and new.parent_before is None:
        found.append("parent inferred" if new.parent.startswith("inferred/") else "parent arrived")
    if old and old.parent_after is None:
        found.append("parent no longer inferred" if old.parent.startswith("inferred/") else "parent removed")
    parents = [(edge.parent_before, edge.parent_after) for edge in (old, new) if edge]
    both = [(was, now) for was, now in parents if was and now]
    if any(was.content != now.content for was, now in both):
        found.append("parent revised")
    if not before.placed:
        found.append("model placed (it was read, not compared)")
    cards = any(was.bases != now.bases for was, now in [(before, after), *both])
    if cards or (old and new and old.told != new.told):
        found.append("metadata changed")
    if mode:
        found.append(f"mode changed to {mode}")
    return found or [_weighed(old, new)]


def _gone(kind: str, inferred: bool) -> str:
    return f"{kind} no longer inferred" if inferred else f"{kind} removed"


def _weighed(old: Hung | None, new: Hung | None) -> str:
    """What the evidence says of an edge that nothing but others in its tree can have changed."""
    if new is None:
        return "evidence changed: a root now"
    said = [
        f"confidence {new.confidence:.3g}"
        if old is None
        else f"confidence {old.confidence:.3g} -> {new.confidence:.3g}"
    ]
    if old and old.runner_up == new.parent != old.parent:
        said.append("the runner-up took over")
    elif old and old.runner_up != new.runner_up:
        said.append(f"runner-up {old.runner_up or 'none'} -> {new.runner_up or 'none'}")
    return f"evidence changed: {', '.join(said)}"
