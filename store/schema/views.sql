create view live_models as
    select * exclude (removed_run) from models where removed_run is null and kind = 'model';
comment on view live_models is 'Models that the graph holds now, latest revision each; adapters are in live_adapters.';

create view live_adapters as
    select * exclude (removed_run) from models where removed_run is null and kind = 'adapter';
comment on view live_adapters is 'Adapters that the graph holds now, latest revision each: their tensors are differences from a base.';

create view adapters as
    with said as (select distinct a.model_id, k.value from live_adapters a left join claims k on k.model_id = a.model_id and k.field = 'base_model')
    select
        a.name as adapter,
        s.value as declared_base,
        b.name as base,
        b.name is not null and not exists (
            from tensors t
            where t.architecture = a.architecture and t.role not in ('head', 'embedding') and not exists (
                from tensors of_base
                where of_base.architecture = b.architecture and of_base.tensor = t.tensor and of_base.shape = t.shape
            )
        ) as fits,
        a.tensors,
        a.revision,
        a.source
    from live_adapters a
    join said s using (model_id)
    left join live_models b on b.name = s.value;
comment on view adapters is 'One row for each live adapter and base that it declares (null where none); base is that model where the graph holds it, and fits says that it has all matrices that the adapter tunes, in their shapes.';

create view nodes as
    select model_id as node_id, name, source, content_hash, false as inferred from models
    union all
    select distinct inferred_id, name, null, null, true from inferred;
comment on view nodes is 'All that edges and components refer to, by id: revisions of models, gone ones too, and inferred ancestors (without source and content_hash).';

create view current_edges as
    select * exclude (valid_to_run) from edges where valid_to_run is null;
comment on view current_edges is 'Edges that hold now.';

create view current_merges as
    select * exclude (valid_to_run) from merges where valid_to_run is null;
comment on view current_merges is 'Merges that hold now.';

create view parents as
    select
        m.name as child,
        p.name as parent,
        e.relation,
        g.coefficient,
        p.node_id = e.parent_id as main,
        p.inferred
    from current_edges e
    join models m on m.model_id = e.child_id
    left join current_merges g on g.child_id = e.child_id
    join nodes p on p.node_id = coalesce(g.parent_id, e.parent_id);
comment on view parents is 'All parents of each model that has any: one for a trained or derived model (coefficient null, main true), several for a merge, of which the main one is that of the tree; inferred says that it is no model of the graph.';

create view lineage as
    select
        m.name as model,
        p.name as parent,
        e.relation,
        e.distance,
        e.confidence,
        u.name as runner_up,
        e.runner_up_confidence,
        r.name as root,
        c.depth,
        c.members,
        m.architecture,
        m.revision,
        m.source,
        coalesce(p.inferred, false) as inferred
    from live_models m
    join components c using (model_id)
    join nodes r on r.node_id = c.root_id
    left join current_edges e on e.child_id = m.model_id
    left join nodes p on p.node_id = e.parent_id
    left join nodes u on u.node_id = e.runner_up_id;
comment on view lineage is 'One row for each live model, with names: its parent (null for a root), root, depth and edge; inferred says that the parent is no model of the graph.';

create macro ancestors_of(m) as table
    select
        (c.depth - step + 1)::integer as generation,
        a.name as model,
        e.relation,
        e.distance,
        e.confidence,
        a.inferred
    from live_models d
    join components c using (model_id)
    cross join unnest(range(1, c.depth + 1)) as steps(step)
    join nodes a on a.node_id = c.path[step]
    left join current_edges e on e.child_id = c.path[step + 1]
    where d.name = m
    order by generation;

create macro descendants_of(m) as table
    select
        (c.depth - list_position(c.path, a.model_id) + 1)::integer as generation,
        d.name as model,
        p.name as parent,
        e.relation,
        e.distance,
        e.confidence,
        d.inferred
    from live_models a
    join components ac on ac.model_id = a.model_id
    join components c on c.root_id = ac.root_id and list_contains(c.path, a.model_id)
    join nodes d on d.node_id = c.model_id
    join current_edges e on e.child_id = c.model_id
    join nodes p on p.node_id = e.parent_id
    where a.name = m and c.model_id <> a.model_id
    order by generation, parent, model;

create macro siblings_of(m) as table
    select s.name as model, p.name as parent, o.relation, o.distance, o.confidence, s.inferred
    from live_models x
    join current_edges e on e.child_id = x.model_id
    join current_edges o on o.parent_id = e.parent_id and o.child_id <> x.model_id
    join nodes s on s.node_id = o.child_id
    join nodes p on p.node_id = o.parent_id
    where x.name = m
    order by model;
