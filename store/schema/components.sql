create table components (
    model_id bigint primary key,
    root_id bigint not null,
    depth integer not null,
    members integer not null,
    path bigint[] not null
);
comment on table components is 'Which Model Tree each live model belongs to, and its line of descent.';
comment on column components.model_id is 'References models.';
comment on column components.root_id is 'Root of its Model Tree; itself for a root.';
comment on column components.depth is 'Edges between the root and the model; 0 for a root.';
comment on column components.members is 'Models in the Model Tree.';
comment on column components.path is 'Model ids from the root to the model, both included: ancestors are a look-up, not a recursion.';
