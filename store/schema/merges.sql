create table merges (
    child_id bigint not null,
    parent_id bigint not null,
    coefficient double not null,
    method varchar not null,
    valid_from_run integer not null,
    valid_to_run integer
);
comment on table merges is 'All parents of each model that was merged from others, now (valid_to_run null) and in the past; the one of its edge is among them.';
comment on column merges.child_id is 'References models.';
comment on column merges.parent_id is 'References models.';
comment on column merges.coefficient is 'Share of the parent''s weights in the child (linear, slerp), or of what it has learned since a base that all of them come from (task_arithmetic, ties, dare; the base is in the edge''s evidence).';
comment on column merges.method is 'linear, task_arithmetic, slerp, ties or dare.';
comment on column merges.valid_from_run is 'Run that first found it.';
comment on column merges.valid_to_run is 'Run that found otherwise; null while it holds.';
