create table settings (
    key varchar primary key,
    value varchar not null
);
comment on table settings is 'What holds for the whole graph: schema and sketch versions, seed, mode of the last update, and whether it inferred ancestors.';
comment on column settings.key is 'schema_version, sketch_version, base_generation, mode, inferred (true or false).';
comment on column settings.value is 'As text.';
