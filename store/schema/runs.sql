create table runs (
    run_id integer primary key,
    command varchar not null,
    source varchar,
    started_at timestamp not null,
    finished_at timestamp,
    status varchar not null,
    models_seen integer not null default 0,
    models_new integer not null default 0,
    models_changed integer not null default 0,
    models_removed integer not null default 0,
    models_skipped integer not null default 0,
    bytes_total bigint not null default 0,
    bytes_read bigint not null default 0,
    requests bigint not null default 0,
    crawl_seconds double not null default 0,
    update_seconds double not null default 0,
    components_touched integer not null default 0,
    edges_added integer not null default 0,
    edges_closed integer not null default 0,
    mode varchar,
    version varchar not null,
    shortlist_recall double
);
comment on table runs is 'One row for each time that a command wrote to the graph.';
comment on column runs.run_id is 'Counts from 1.';
comment on column runs.command is 'index, crawl, update, nightly or repair; unknown where a repair found only that there was such a run.';
comment on column runs.source is 'folder:PATH, cache:PATH or hub:URL; null for update.';
comment on column runs.started_at is 'UTC.';
comment on column runs.finished_at is 'UTC; null while it runs or when it was killed.';
comment on column runs.status is 'running, done, or interrupted (killed; a later run went on from what it had).';
comment on column runs.shortlist_recall is 'Share of the true nearest that the lists of nearest hold, 0 to 1, measured on 16 models of each large component that was solved; the least of these, null where there was none.';
comment on column runs.models_seen is 'Models that the source listed.';
comment on column runs.models_new is 'Models whose name was not in the graph.';
comment on column runs.models_changed is 'Models with a new revision.';
comment on column runs.models_removed is 'Models that the source no longer holds.';
comment on column runs.models_skipped is 'Models not ingested; table skipped says why.';
comment on column runs.bytes_total is 'Bytes of weights of the models that were read in this run.';
comment on column runs.bytes_read is 'Bytes of weights actually read.';
comment on column runs.requests is 'HTTP requests made; 0 for local sources.';
comment on column runs.crawl_seconds is 'Wall time of listing, reading and sketching.';
comment on column runs.update_seconds is 'Wall time of shortlist, distances and trees.';
comment on column runs.components_touched is 'Model Trees that were solved again.';
comment on column runs.edges_added is 'Edges that appeared or changed.';
comment on column runs.edges_closed is 'Edges that vanished or were replaced.';
comment on column runs.mode is 'default or paper.';
comment on column runs.version is 'Version of modelkin.';
