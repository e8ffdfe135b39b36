create table edges (
    child_id bigint not null,
    parent_id bigint not null,
    relation varchar not null,
    distance double not null,
    confidence double not null,
    runner_up_id bigint,
    runner_up_confidence double,
    evidence struct(cue varchar, value double, log_odds double, says varchar)[] not null,
    valid_from_run integer not null,
    valid_to_run integer
);
create index edges_by_child on edges (child_id);
comment on table edges is 'Measured parent of each model and inferred ancestor that has one, now (valid_to_run null) and in the past. At most one current edge a child.';
comment on column edges.child_id is 'References models, or inferred where negative.';
comment on column edges.parent_id is 'References models, or inferred where negative.';
comment on column edges.relation is 'finetune, partial (some weights were frozen), lora, merge (table merges has all its parents), quantized, cast, pruned or copy.';
comment on column edges.distance is 'As pairs.distance; 0 for a copy. To and from an inferred ancestor it follows from distances between models.';
comment on column edges.confidence is 'Probability, 0 to 1, that this is the parent and not another model or the reverse.';
comment on column edges.runner_up_id is 'The next best parent, a model; null when there is no other candidate.';
comment on column edges.runner_up_confidence is 'Its probability.';
comment on column edges.evidence is 'Each cue: its measured value, the log-odds (natural logarithm) that it gives to parent -> child against child -> parent, and a sentence.';
comment on column edges.valid_from_run is 'Run that first found it.';
comment on column edges.valid_to_run is 'Run that found otherwise; null while it holds.';
