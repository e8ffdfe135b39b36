create table memory (
    content varchar not null,
    kind varchar not null,
    digest blob not null,
    answer blob not null
);
comment on table memory is 'What the last update found out about models: answers that hold as long as their inputs are the same. Deleting its rows costs time and changes nothing.';
comment on column memory.content is 'Content hash of the model that the question was about, as in models.';
comment on column memory.kind is 'The question: curved and depends (is it a merge?), derived (with the number of the round), hung and lattice (what was it rounded from, and is it rounded?), told (what speaks for its edge), written (what its edge as it is written follows from), tuned (was it trained from a merge?), roots, age, held (does it hold what made a copy?), kept (of what is no zero in it, the nearest); eight bits, true nearest, cues and ranks of pairs; and what begins with "tree": a record of all models of a large component, kept with one of them: near and above (lists of nearest and of possible parents), pruned (those nearest in what is no zero), relatives, parents (costs of candidate edges), and who is no merge and no copy (depends, curved, none); the number is the width of a record.';
comment on column memory.digest is '16 bytes over all that the answer was computed from, and the version of the solver; empty where the answer says itself what it holds for.';
comment on column memory.answer is 'The answer: empty for no, else JSON or little-endian float64.';
