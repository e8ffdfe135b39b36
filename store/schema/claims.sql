create table claims (
    model_id bigint not null,
    field varchar not null,
    value varchar not null,
    stated_in varchar not null
);
comment on table claims is 'What model cards and configurations declare; nothing here was measured.';
comment on column claims.model_id is 'References models.';
comment on column claims.field is 'base_model, base_model_relation, license, license_name, library_name, pipeline_tag, datasets, tags, author, name_or_path.';
comment on column claims.value is 'One row for each value of a list.';
comment on column claims.stated_in is 'README.md, config.json, adapter_config.json, or hub: what the Hub adds itself.';
