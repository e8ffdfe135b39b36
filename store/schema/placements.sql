create table placements (
    model_id bigint not null,
    stage varchar,
    valid_from_run integer not null,
    valid_to_run integer
);
comment on table placements is 'Which models and inferred ancestors had a place in components, and their stage, after each run that was published: with edges, what it takes to ask the graph as of a run.';
comment on column placements.model_id is 'References models, or inferred where negative.';
comment on column placements.stage is 'As components.stage.';
comment on column placements.valid_from_run is 'Run after which it stood there.';
comment on column placements.valid_to_run is 'Run after which it did not, or with another stage; null while it does.';
