create table inferred (
    inferred_id bigint not null,
    name varchar not null,
    architecture varchar not null,
    children integer not null,
    valid_from_run integer not null,
    valid_to_run integer
);
comment on table inferred is 'Ancestors that distances tell of and no model of the graph is, now (valid_to_run null) and in the past. They have edges and a place in components, but no weights; models does not count them.';
comment on column inferred.inferred_id is 'Negative, so that it is no model_id; follows from the content of its children.';
comment on column inferred.name is 'inferred/ and 8 hex digits that follow from the content of its children.';
comment on column inferred.architecture is 'References architectures.';
comment on column inferred.children is 'Children, inferred ones included; at least 2.';
comment on column inferred.valid_from_run is 'Run that first found it.';
comment on column inferred.valid_to_run is 'Run that found otherwise; null while it holds.';
