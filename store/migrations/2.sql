create table inferred (
    inferred_id bigint not null,
    name varchar not null,
    architecture varchar not null,
    children integer not null,
    valid_from_run integer not null,
    valid_to_run integer
);

create table merges (
    child_id bigint not null,
    parent_id bigint not null,
    coefficient double not null,
    method varchar not null,
    valid_from_run integer not null,
    valid_to_run integer
);

alter table components add column stage varchar;

-- Empty: the next update solves everything again, for merges, inferred ancestors and stages are not there yet.
insert into settings values ('use_metadata', ''), ('inferred', '');
