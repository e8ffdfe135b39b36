alter table runs add column shortlist_recall double;

alter table components add column stale boolean;

create table touched (
    run_id integer not null,
    root_id bigint not null,
    members integer not null,
    arrived integer not null,
    gone integer not null,
    reason varchar not null
);

create table memory (
    content varchar not null,
    kind varchar not null,
    digest blob not null,
    answer blob not null
);

create table placements (
    model_id bigint not null,
    stage varchar,
    valid_from_run integer not null,
    valid_to_run integer
);

-- What is there now, and what once was, from the first update after a model came to the first after it went. Stages
-- were kept for the present only: since when they hold is not known.
insert into placements
    with updates as (select run_id from runs where status = 'done' and mode is not null)
    select
        m.model_id,
        null,
        coalesce((select min(run_id) from updates where run_id >= m.added_run), m.added_run),
        if(c.model_id is null, coalesce((select min(run_id) from updates where run_id >= m.removed_run), m.removed_run), null)
    from models m
    left join components c using (model_id)
    where c.model_id is not null or m.removed_run is not null
    union all
    select
        i.inferred_id,
        null,
        i.valid_from_run,
        i.valid_to_run
    from inferred i;

-- Only safetensors were read, and no adapters.
alter table models add column format varchar;
alter table models add column quantization varchar;
alter table models add column kind varchar;
update models set format = 'safetensors', kind = 'model';

create table repositories (
    source varchar not null,
    name varchar not null,
    hub_id varchar,
    revision varchar not null,
    created_at timestamp,
    modified_at timestamp,
    downloads bigint,
    state varchar not null,
    since timestamp not null,
    moved_to varchar,
    listed_run integer not null,
    checked_at timestamp not null,
    tried_revision varchar,
    tried_reason varchar,
    tried_version varchar,
    attempts integer not null,
    due_at timestamp
);

create table listings (
    source varchar not null,
    selection varchar not null,
    created_until timestamp,
    modified_until timestamp,
    full_at timestamp,
    full_pages integer not null
);

-- What is asked by name is looked up, however many models there are.
create index models_by_name on models (name);
create index edges_by_child on edges (child_id);
