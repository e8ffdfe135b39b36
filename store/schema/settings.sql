create table settings (
    key varchar primary key,
    value varchar not null
);
comment on table settings is 'What holds for the whole graph: schema and sketch versions, seed, how it was last solved.';
comment on column settings.key is 'schema_version, sketch_version, base_generation; how it was last solved: mode (empty until everything was solved), use_metadata and inferred (true or false: may it hold inferred ancestors?), solver (version); solving: what everything is being solved anew with, until it is.';
comment on column settings.value is 'As text.';
