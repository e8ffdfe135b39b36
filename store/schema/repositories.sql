create table repositories (
    source varchar not null,
    name varchar not null,
    hub_id varchar,
    revision varchar not null,
    created_at timestamp,
    modified_at timestamp,
    downloads bigint,
    state varchar not null,
    since timestamp not null,
    moved_to varchar,
    listed_run integer not null,
    checked_at timestamp not null,
    tried_revision varchar,
    tried_reason varchar,
    tried_version varchar,
    attempts integer not null,
    due_at timestamp
);
comment on table repositories is 'What a Hub has said of each of its repositories, read or not: the frontier of the crawl. (source, name) is unique. For the present only: --as-of shows it as it is now. Times are those of the Hub''s clock.';
comment on column repositories.source is 'hub:URL.';
comment on column repositories.name is 'org/name.';
comment on column repositories.hub_id is 'What the Hub calls it whatever its name; null where it does not say.';
comment on column repositories.revision is 'Commit sha as last told; empty where the Hub has not told any.';
comment on column repositories.created_at is 'As last told.';
comment on column repositories.modified_at is 'As last told.';
comment on column repositories.downloads is 'As last told; null unless the crawl goes by downloads.';
comment on column repositories.state is 'live; renamed (see moved_to); deleted (the Hub answers 404) or private (401): a Hub does not tell the two apart, and neither is in the graph; gated or disabled: what was read before stays in the graph.';
comment on column repositories.since is 'When that state was first seen.';
comment on column repositories.moved_to is 'Its new name, where it was renamed; its models then bear that name.';
comment on column repositories.listed_run is 'The last run that saw it; 0 for none.';
comment on column repositories.checked_at is 'When the Hub last said anything of it.';
comment on column repositories.tried_revision is 'Revision that could not be read; it is not tried again before due_at, or before another modelkin runs. Null otherwise.';
comment on column repositories.tried_reason is 'Why, as in table skipped.';
comment on column repositories.tried_version is 'Version of modelkin that tried.';
comment on column repositories.attempts is 'How often in a row the same was found: the time to due_at doubles with it, from a day to 32.';
comment on column repositories.due_at is 'When to look again; null for when it changes.';
