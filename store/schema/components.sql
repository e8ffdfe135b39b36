create table components (
    model_id bigint primary key,
    root_id bigint not null,
    depth integer not null,
    members integer not null,
    path bigint[] not null,
    stage varchar,
    stale boolean
);
comment on table components is 'Which Model Tree each live model and each inferred ancestor belongs to, and its line of descent.';
comment on column components.model_id is 'References models, or inferred where negative.';
comment on column components.root_id is 'Root of its Model Tree, itself for a root; inferred where negative.';
comment on column components.depth is 'Edges between the root and the model; 0 for a root.';
comment on column components.members is 'Models in the Model Tree, inferred ancestors not counted.';
comment on column components.path is 'Ids from the root to the model, both included: ancestors are a look-up, not a recursion.';
comment on column components.stage is 'Training stage that made the weights: generalization (pre-training) or specialization (tuning); of a copy or a derived model, that of its source. Null for inferred ancestors and in paper mode.';
comment on column components.stale is 'True when the model was renamed since its tree was found, or a date of it corrected in a graph where dates weigh in: the next update solves the tree again. Null otherwise.';
