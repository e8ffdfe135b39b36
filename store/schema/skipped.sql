create table skipped (
    run_id integer not null,
    source varchar not null,
    name varchar not null,
    revision varchar,
    path varchar,
    scope varchar not null,
    reason varchar not null,
    message varchar not null
);
comment on table skipped is 'What was not ingested, and why.';
comment on column skipped.run_id is 'References runs.';
comment on column skipped.source is 'folder:PATH, cache:PATH or hub:URL.';
comment on column skipped.name is 'Model, as its source names it; escaped where it holds control characters.';
comment on column skipped.revision is 'Revision, where it was known.';
comment on column skipped.path is 'File within the model, where one is to blame.';
comment on column skipped.scope is 'model (nothing of it is in the graph), file, or tensor (the rest of the model is in the graph).';
comment on column skipped.reason is 'One word for grouping: truncated, unsupported_format, no_weights, not_finite, ...';
comment on column skipped.message is 'What was wrong, with what, what was expected.';
