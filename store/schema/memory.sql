create table memory (
    content varchar not null,
    kind varchar not null,
    digest blob not null,
    answer blob not null
);
comment on table memory is 'What the last update found out about models: answers that hold as long as their inputs are the same. Deleting its rows costs time and changes nothing.';
comment on column memory.content is 'Content hash of the model that the question was about, as in models.';
comment on column memory.kind is 'The question: curved and depends (is it a merge?), derived (with the number of the round), told (what speaks for its edge), parents (costs of candidate edges), roots, age, lattice, held (does it hold what made a copy?), relatives (who may it be merged from?); and what is kept of a large component: near and above (lists of nearest and of possible parents, with the width of a record), pruned (those nearest in what is no zero; kept: the first of them), eight bits, true nearest; cues and ranks of pairs.';
comment on column memory.digest is '16 bytes over all that the answer was computed from, and the version of the solver; empty where the answer says itself what it holds for.';
comment on column memory.answer is 'The answer: empty for no, else JSON or little-endian float64.';
