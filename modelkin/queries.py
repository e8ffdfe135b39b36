"""The SQL behind `ModelGraph`: by model id, so that one name in two sources is two models.

The macros of the store (`ancestors_of` and the like) say the same by name, for people. `label` is the macro of
`modelkin.naming`. Columns stand in the order of the fields of the rows in `modelkin.rows`.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AUDIT",
    "AUDIT_ALL",
    "CLAIMS",
    "EDGES",
    "EXPLAIN",
    "MODELS",
    "PAIR",
    "PARENTS",
    "RUNS",
    "SIBLINGS",
    "SKIPPED",
    "TREE",
    "TREES",
    "TREES_AND_ALONE",
]

_MERGE_PARENTS: Final = """
    coalesce(
        (
            select list({'parent': label(g.name, g.source), 'coefficient': o.coefficient}
                        order by o.coefficient desc, g.name, g.source)
            from current_merges o join models g on g.model_id = o.parent_id
            where o.child_id = e.child_id
        ),
        []
    ) as merge_parents
"""

PARENTS: Final = """
    select
        label(p.name, p.source) as model, e.relation, o.coefficient, p.node_id = e.parent_id as main, e.confidence,
        p.inferred
    from current_edges e
    left join current_merges o on o.child_id = e.child_id
    join nodes p on p.node_id = coalesce(o.parent_id, e.parent_id)
    where e.child_id = ?
    order by o.coefficient desc, main desc, model
"""

SIBLINGS: Final = """
    select
        label(s.name, s.source) as model,
        label(p.name, p.source) as parent,
        o.relation, o.distance, o.confidence, s.inferred
    from current_edges e
    join current_edges o on o.parent_id = e.parent_id and o.child_id <> e.child_id
    join nodes s on s.node_id = o.child_id
    join nodes p on p.node_id = o.parent_id
    where e.child_id = ?
    order by model
"""

_PLACED: Final = f"""
    c.model_id,
    case when c.depth > 0 then c.path[c.depth] end as parent_id,
    label(m.name, m.source) as model,
    e.relation, e.distance, e.confidence, m.inferred,
    {_MERGE_PARENTS}
    from components c
    join nodes m on m.node_id = c.model_id
    left join current_edges e on e.child_id = c.model_id
"""

TREE: Final = f"""
    select {_PLACED}
    where c.root_id = (select root_id from components where model_id = ?)
"""

TREES: Final = f"""
    select c.root_id, {_PLACED}
    join nodes r on r.node_id = c.root_id
    order by c.members desc, r.name, c.root_id
"""

TREES_AND_ALONE: Final = """
    select count(*) filter (members > 1), count(*) filter (members = 1) from components where depth = 0
"""

EXPLAIN: Final = f"""
    select
        label(m.name, m.source) as model,
        label(p.name, p.source) as parent,
        label(r.name, r.source) as root,
        c.depth, c.members, c.stage,
        e.relation, e.distance, e.confidence,
        e.valid_from_run as since_run,
        e.evidence,
        label(u.name, u.source) as runner_up,
        e.runner_up_confidence,
        e.parent_id, e.runner_up_id,
        m.inferred,
        coalesce(p.inferred, false) as parent_inferred,
        {_MERGE_PARENTS}
    from nodes m
    join components c on c.model_id = m.node_id
    join nodes r on r.node_id = c.root_id
    left join current_edges e on e.child_id = m.node_id
    left join nodes p on p.node_id = e.parent_id
    left join nodes u on u.node_id = e.runner_up_id
    where m.node_id = ?
"""

PAIR: Final = """
    select distance, correlation, shared, equal, rank from pairs where model_a = ? and model_b = ?
"""

CLAIMS: Final = """
    select distinct a.claimed_parent, a.verdict, a.stated_in
    from audit a
    join models m on m.name = a.model
    where m.model_id = ? and a.claimed_parent is not null
    order by all
"""

MODELS: Final = """
    select
        label(m.name, m.source) as name,
        label(p.name, p.source) as parent,
        label(r.name, r.source) as root,
        c.depth, c.stage,
        m.architecture, m.dtype, m.parameters, m.tensors, m.bytes_total, m.bytes_read,
        m.created_at, m.modified_at, m.revision, m.source
    from live_models m
    left join components c using (model_id)
    left join nodes r on r.node_id = c.root_id
    left join current_edges e on e.child_id = m.model_id
    left join nodes p on p.node_id = e.parent_id
    order by m.name, m.source
"""

EDGES: Final = f"""
    select
        label(p.name, p.source) as parent,
        label(m.name, m.source) as child,
        e.relation, e.distance, e.confidence,
        label(u.name, u.source) as runner_up,
        e.runner_up_confidence,
        e.valid_from_run as since_run,
        p.inferred or m.inferred as inferred,
        {_MERGE_PARENTS}
    from current_edges e
    join nodes m on m.node_id = e.child_id
    join nodes p on p.node_id = e.parent_id
    left join nodes u on u.node_id = e.runner_up_id
    order by parent, child
"""

RUNS: Final = """
    select
        run_id, command, source, started_at, finished_at, status,
        models_seen, models_new, models_changed, models_removed, models_skipped,
        bytes_total, bytes_read, requests, crawl_seconds, update_seconds,
        components_touched, edges_added, edges_closed, mode, version, shortlist_recall
    from runs
    order by run_id
"""

SKIPPED: Final = """
    select run_id, source, name, revision, path, scope, reason, message
    from skipped
    order by run_id, name, path, reason, message
"""

AUDIT: Final = """
    select model, claimed_parent, measured_parent, confidence, verdict, stated_in, detail
    from audit
    order by model, claimed_parent, stated_in, verdict
"""

AUDIT_ALL: Final = """
    select model, claimed_parent, measured_parent, confidence, verdict, stated_in, detail
    from audit
    union all
    select m.name, null, p.name, e.confidence, 'missing', null, null
    from current_edges e
    join live_models m on m.model_id = e.child_id
    join nodes p on p.node_id = e.parent_id
    where e.child_id not in (select model_id from claims where field = 'base_model')
    order by model, claimed_parent, stated_in, verdict
"""
