create table touched (
    run_id integer not null,
    root_id bigint not null,
    members integer not null,
    arrived integer not null,
    gone integer not null,
    reason varchar not null
);
comment on table touched is 'Components that a run solved again, and why. All others it left as they were.';
comment on column touched.run_id is 'References runs.';
comment on column touched.root_id is 'Root of the component as it was found: references models, or inferred where negative.';
comment on column touched.members is 'Models in the component.';
comment on column touched.arrived is 'Of them, models that are new or have a new revision.';
comment on column touched.gone is 'Models that it, or what it fell from, has lost.';
comment on column touched.reason is 'arrived, gone, arrived and gone, dates (one was corrected) or settings (everything was solved again).';
