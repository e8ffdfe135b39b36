"""What a Hub has said of its repositories, read or not, and what has become of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from store.writer import GraphWriter

__all__ = ["THERE", "ListingState", "Repositories", "Repository"]

_INCOMING: Final = pa.schema(
    [
        ("name", pa.string()),
        ("revision", pa.string()),
        ("hub_id", pa.string()),
        ("created_at", pa.timestamp("us")),
        ("modified_at", pa.timestamp("us")),
        ("downloads", pa.int64()),
        ("disabled", pa.bool_()),
    ]
)

# Whatever is on the Hub, wanted or not.
THERE: Final = "state in ('live', 'gated', 'disabled')"

_LATER: Final = "?::timestamp + to_days(least(32, 2 ** least(attempts, 5))::integer)"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as the Hub tells it; times are aware."""

    name: str
    revision: str
    hub_id: str | None
    created_at: datetime | None
    modified_at: datetime | None
    downloads: int | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class ListingState:
    """A row of `listings`; times are aware."""

    created_until: datetime | None = None
    modified_until: datetime | None = None
    full_at: datetime | None = None
    full_pages: int = 0


class Repositories:
    """The repositories of one Hub, within a run. `version` is that of modelkin: what one could not read another may."""

    def __init__(self, writer: GraphWriter, source: str, version: str) -> None:
        self._writer = writer
        self._connection = writer.connection
        self._source = source
        self._version = version

    def listing(self, selection: str) -> ListingState | None:
        """How far a list was followed; None when it never was."""
        row = self._connection.execute(
            """select created_until, modified_until, full_at, full_pages from listings
               where source = ? and selection = ?""",
            [self._source, selection],
        ).fetchone()
        return ListingState(_aware(row[0]), _aware(row[1]), _aware(row[2]), row[3]) if row else None

    def followed(self, selection: str, state: ListingState) -> None:
        """Note how far a list was followed."""
        with self._writer.transaction():
            self._connection.execute(
                "delete from listings where source = ? and selection = ?", [self._source, selection]
            )
            self._connection.execute(
                "insert into listings values (?, ?, ?, ?, ?, ?)",
                [self._source, selection, *(_naive(value) for value in astuple(state))],
            )

    def note(self, found: Iterable[Repository], now: datetime) -> None:
        """Note what the Hub says of these repositories; of several of one name the last counts."""
        rows = {each.name: {key: _naive(value) for key, value in asdict(each).items()} for each in found}
        if not rows:
            return
        c, when = self._connection, _naive(now)
        with self._writer.transaction():
            c.register("incoming", pa.Table.from_pylist(list(rows.values()), _INCOMING))
            # What the list calls disabled is without due_at, what reading found disabled has one and outlasts the list.
            c.execute(
                """update repositories r set
                     revision = i.revision, hub_id = coalesce(i.hub_id, r.hub_id), created_at = i.created_at,
                     modified_at = i.modified_at, downloads = coalesce(i.downloads, r.downloads),
                     listed_run = $run, checked_at = $now, moved_to = null,
                     state = case when i.disabled then 'disabled' when r.state = 'gated' then 'gated'
                                  when r.state = 'disabled' and r.due_at is not null then 'disabled' else 'live' end,
                     since = if(case when i.disabled then r.state = 'disabled' when r.state = 'gated' then true
                                     when r.state = 'disabled' and r.due_at is not null then true
                                     else r.state = 'live' end, r.since, $now),
                     attempts = if(r.state in ('deleted', 'private', 'renamed'), 0, r.attempts),
                     due_at = if(r.state in ('deleted', 'private', 'renamed'), null, r.due_at)
                   from incoming i where r.source = $source and r.name = i.name""",
                {"run": self._writer.run_id, "now": when, "source": self._source},
            )
            c.execute(
                """insert into repositories by name
                   select $source as source, i.* exclude (disabled), if(i.disabled, 'disabled', 'live') as state,
                     $now as since, $run as listed_run, $now as checked_at, 0 as attempts
                   from incoming i anti join (from repositories where source = $source) r using (name)""",
                {"run": self._writer.run_id, "now": when, "source": self._source},
            )
            c.unregister("incoming")

    def put(self, name: str, state: str, now: datetime, moved_to: str | None = None) -> None:
        """Note what has become of a repository; the same again is looked at again after twice the time."""
        c, when = self._connection, _naive(now)
        changed = c.execute(
            f"""update repositories set
                  since = if(state = ?, since, ?), attempts = if(state = ?, attempts, 0) + 1,
                  due_at = if(? = 'renamed', null, {_LATER.replace("attempts", "if(state = ?, attempts, 0)")}),
                  state = ?, moved_to = ?, checked_at = ?
                where source = ? and name = ? returning 1""",
            [state, when, state, state, when, state, state, moved_to, when, self._source, name],
        ).fetchall()
        if not changed:
            c.execute(
                """insert into repositories by name
                   select ? as source, ? as name, '' as revision, ? as state, ? as since, ? as moved_to,
                     0 as listed_run, ? as checked_at, 1 as attempts, ?::timestamp + to_days(1) as due_at""",
                [self._source, name, state, when, moved_to, when, when],
            )

    def rename(self, old: str, new: Repository, now: datetime) -> bool:
        """Give all revisions of a model its new name; False when a live model has that name already.

        Then the old one is another model's past: it leaves the live ones. Whatever hung on the name, such as the order
        of copies, is found again by the next update.
        """
        c = self._connection
        self.note([new], now)
        with self._writer.transaction():
            taken = c.execute(
                "select 1 from models where source = ? and name = ? and removed_run is null", [self._source, new.name]
            ).fetchone()
            if taken:
                self._writer.remove([old])
            else:
                c.execute(
                    """update components set stale = true where model_id in
                       (select model_id from models where source = ? and name = ? and removed_run is null)""",
                    [self._source, old],
                )
                c.execute("update models set name = ? where source = ? and name = ?", [new.name, self._source, old])
                c.execute(
                    """update repositories r set tried_revision = o.tried_revision, tried_reason = o.tried_reason,
                         tried_version = o.tried_version, due_at = o.due_at, attempts = o.attempts
                       from repositories o
                       where r.source = ? and r.name = ? and o.source = r.source and o.name = ?
                       and r.tried_revision is null and o.tried_revision = r.revision""",
                    [self._source, new.name, old],
                )
            self.put(old, "renamed", now, new.name)
        return not taken

    def concluded(self, outcomes: Sequence[tuple[str, str, str | None]], now: datetime, again: frozenset[str]) -> None:
        """Note how reading ended, as (name, revision, reason why it could not be read or None).

        What failed for a reason of `again` is tried again later, other failures when there is another revision.
        """
        if not outcomes:
            return
        rows = [
            {
                "name": name,
                "tried": None if reason is None else revision,
                "reason": reason,
                "again": reason in again,
                "state": reason if reason in ("gated", "disabled") else "live",
            }
            for name, revision, reason in outcomes
        ]
        texts = [(key, pa.string()) for key in ("name", "tried", "reason", "state")]
        kinds = pa.schema([*texts, ("again", pa.bool_())])
        c, when = self._connection, _naive(now)
        with self._writer.transaction():
            c.register("incoming", pa.Table.from_pylist(rows, kinds))
            c.execute(
                f"""update repositories r set
                      tried_revision = i.tried, tried_reason = i.reason, tried_version = if(i.tried is null, null, ?),
                      due_at = if(i.again, {_LATER}, null), attempts = if(i.again, r.attempts + 1, 0),
                      since = if(r.state = i.state, r.since, ?), state = i.state
                    from incoming i where r.source = ? and r.name = i.name""",
                [self._version, when, when, self._source],
            )
            c.unregister("incoming")

    def missing(self, most: int) -> list[str]:
        """What this run's list did not hold, known repositories and live models, longest unseen first."""
        return self._names(
            f"""select name from (
                  select name, checked_at from repositories
                  where source = $source and {THERE} and listed_run < $run
                  union all
                  select m.name, timestamp '1970-01-01' from models m
                  where m.source = $source and m.removed_run is null
                  and not exists (from repositories r where r.source = m.source and r.name = m.name)
                ) order by checked_at, name limit $most""",
            {"run": self._writer.run_id, "most": most},
        )

    def perhaps_renamed(self) -> list[str]:
        """What this run's list did not hold, but whose commit or id it did, under a name that no model has."""
        return self._names(
            f"""with unread as (
                  from repositories r where source = $source and state = 'live' and listed_run = $run
                  and not exists (
                    from models m where m.source = r.source and m.name = r.name and m.removed_run is null
                  )
                ), unseen as (from repositories where source = $source and {THERE} and listed_run < $run)
                select o.name from unseen o join unread n on o.hub_id = n.hub_id
                union
                select o.name from unseen o join unread n on o.revision = n.revision
                order by 1""",
            {"run": self._writer.run_id},
        )

    def due(self, now: datetime, most: int) -> list[str]:
        """Deleted and private ones that are to be looked at again."""
        return self._names(
            """select name from repositories where source = $source and state in ('deleted', 'private')
               and due_at <= $now order by due_at, name limit $most""",
            {"now": _naive(now), "most": most},
        )

    def oldest(self, most: int) -> list[str]:
        """Those of which the Hub has said nothing for longest, and nothing in this run."""
        return self._names(
            f"""select name from repositories where source = $source and {THERE} and listed_run < $run
                order by checked_at, name limit $most""",
            {"run": self._writer.run_id, "most": most},
        )

    def _names(self, query: str, parameters: Mapping[str, Any]) -> list[str]:
        rows = self._connection.execute(query, {"source": self._source, **parameters}).fetchall()
        return [row[0] for row in rows]


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def _aware(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)
