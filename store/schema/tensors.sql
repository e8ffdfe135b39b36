create table tensors (
    architecture varchar not null,
    tensor varchar not null,
    shape bigint[] not null,
    elements bigint not null,
    role varchar not null,
    primary key (architecture, tensor)
);
comment on table tensors is 'The tensors of each architecture''s backbone.';
comment on column tensors.architecture is 'References architectures.';
comment on column tensors.tensor is 'Canonical name: wrappers such as module. or bert. are stripped.';
comment on column tensors.shape is 'Lengths of the axes.';
comment on column tensors.elements is 'Product of shape.';
comment on column tensors.role is 'weight (two or more long axes), vector (bias, norm), embedding, constant (a basis, a window: nobody trains it), statistic, buffer or head.';
