create table memory (
    content varchar not null,
    kind varchar not null,
    digest blob not null,
    answer blob not null
);
comment on table memory is 'What the last update found out about models: answers that hold as long as their inputs are the same. Deleting its rows costs time and changes nothing.';
comment on column memory.content is 'Content hash of the model that the question was about, as in models.';
comment on column memory.kind is 'The question: curved and depends (is it a merge?), derived, told (what speaks for its edge), parents (costs of candidate edges), roots, age.';
comment on column memory.digest is '16 bytes over all that the answer was computed from, and the version of the solver.';
comment on column memory.answer is 'The answer: empty for no, else JSON or little-endian float64.';
