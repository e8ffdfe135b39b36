-- Every table as it was after run {run}, read from the attached database `present`.
create view settings as from present.settings;

create view runs as from present.runs where run_id <= {run};

create view models as
    select * replace (case when removed_run <= {run} then removed_run end as removed_run)
    from present.models where added_run <= {run};

create view architectures as from present.architectures a where a.architecture in (select architecture from models);

create view tensors as from present.tensors t where t.architecture in (select architecture from models);

create view claims as from present.claims k where k.model_id in (select model_id from models);

-- Pairs are kept for models that are live today; of those, the ones that were live then.
create view pairs as
    select p.* from present.pairs p
    join models a on a.model_id = p.model_a and a.removed_run is null
    join models b on b.model_id = p.model_b and b.removed_run is null;

create view inferred as
    select * replace (case when valid_to_run <= {run} then valid_to_run end as valid_to_run)
    from present.inferred where valid_from_run <= {run};

create view edges as
    select * replace (case when valid_to_run <= {run} then valid_to_run end as valid_to_run)
    from present.edges where valid_from_run <= {run};

create view merges as
    select * replace (case when valid_to_run <= {run} then valid_to_run end as valid_to_run)
    from present.merges where valid_from_run <= {run};

create view placements as
    select * replace (case when valid_to_run <= {run} then valid_to_run end as valid_to_run)
    from present.placements where valid_from_run <= {run};

create view skipped as from present.skipped where run_id <= {run};

create view touched as from present.touched where run_id <= {run};

-- What an update remembers is of the present.
create view memory as from present.memory where false;

-- What a Hub says now: what it said then is not kept.
create view repositories as from present.repositories;

create view listings as from present.listings;

create table components as
    with recursive
    held as (select child_id, parent_id from edges where valid_to_run is null),
    standing as (select model_id, stage from placements where valid_to_run is null),
    roots as (
        (select model_id from standing union select parent_id from held) except select child_id from held
    ),
    lines as (
        select model_id, model_id as root_id, [model_id] as path from roots
        union all
        select h.child_id, l.root_id, list_append(l.path, h.child_id)
        from lines l join held h on h.parent_id = l.model_id
    ),
    counted as (
        select *, count(*) filter (model_id > 0) over (partition by root_id) as members from lines
    )
    select
        model_id, root_id, (len(path) - 1)::integer as depth, members::integer as members, path,
        standing.stage, null::boolean as stale
    from counted join standing using (model_id);
