create table architectures (
    architecture varchar primary key,
    tensors integer not null,
    parameters bigint not null,
    example varchar not null
);
comment on table architectures is 'One row for each backbone: canonical names and shapes, without heads, vocabulary, dtype or file format.';
comment on column architectures.architecture is '16 hex digits over the sorted canonical names and shapes of the backbone.';
comment on column architectures.tensors is 'Tensors in the backbone.';
comment on column architectures.parameters is 'Values in the backbone.';
comment on column architectures.example is 'Name of the first model that had it.';
