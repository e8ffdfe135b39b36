create table pairs (
    model_a bigint not null,
    model_b bigint not null,
    distance double not null,
    correlation double not null,
    shared double not null,
    equal double not null,
    rank integer
);
comment on table pairs is 'Measured pairs of live models of one architecture that are related; model_a < model_b, each once.';
comment on column pairs.model_a is 'References models.';
comment on column pairs.model_b is 'References models.';
comment on column pairs.distance is 'sqrt of the sum over shared backbone weights of the squared L2 norm of the difference, estimated from samples, over the root of the number of values: root mean square change of a weight.';
comment on column pairs.correlation is 'Mean over shared weights of the correlation of the samples, weighted by sqrt(elements).';
comment on column pairs.shared is 'Share of the backbone, weighted by sqrt(elements), that both have with equal shapes, 0 to 1.';
comment on column pairs.equal is 'Share of the backbone''s values in tensors with equal content hash, 0 to 1.';
comment on column pairs.rank is 'Largest rank of the difference over the projected tensors; null when none is projected, k when full.';
