create table settings (
    key varchar primary key,
    value varchar not null
);
comment on table settings is 'What holds for the whole graph: schema and sketch versions, seed, how it was last solved.';
comment on column settings.key is 'schema_version, sketch_version, base_generation, mode, use_metadata and inferred (whether it holds inferred ancestors): true, false, or empty before the first update.';
comment on column settings.value is 'As text.';
