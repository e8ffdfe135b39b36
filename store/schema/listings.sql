create table listings (
    source varchar not null,
    selection varchar not null,
    created_until timestamp,
    modified_until timestamp,
    full_at timestamp,
    full_pages integer not null
);
comment on table listings is 'How far each list of a Hub has been followed: its watermarks, by the Hub''s clock. (source, selection) is unique. For the present only.';
comment on column listings.source is 'hub:URL.';
comment on column listings.selection is 'What narrows the list (author, search, filter), as JSON; empty when nothing does.';
comment on column listings.created_until is 'All that was created until then has been listed; never later than the Hub''s clock said. Null when no model has such a time.';
comment on column listings.modified_until is 'The same of modifications.';
comment on column listings.full_at is 'When the list was last followed to its end.';
comment on column listings.full_pages is 'Pages that it had then.';
