create table memory (
    content varchar not null,
    kind varchar not null,
    digest blob not null,
    answer blob not null
);
comment on table memory is 'With what edges of large trees were written: which of them stand, as long as their inputs are the same. Deleting its rows costs time and changes nothing. (What else updates remember lies beside the graph, in answers/.)';
comment on column memory.content is 'Content hash of the model that a tree''s record is kept with, the least of its models, as in models.';
comment on column memory.kind is 'tree written, and the width of a record: one a model.';
comment on column memory.digest is 'Empty: each record says what its edge follows from.';
comment on column memory.answer is 'Little-endian: the version of the solver and the tensors; then of each model its key (16 bytes), the digest of its inputs (16 bytes), the mean sign of the fall of kurtosis and the squared distance from its parent (float64).';
