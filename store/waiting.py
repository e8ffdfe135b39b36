"""What of a Hub is to be read: a queue of revisions, made of what is known of its repositories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from store.repositories import THERE
from store.writer import GraphWriter

__all__ = ["Waiting", "WaitingRevisions"]

# Not in the graph at this revision, and not known to be unreadable.
_WANTED: Final = f"""
    from repositories r
    where r.source = $source and (r.{THERE}) and r.revision <> ''
    and (r.state <> 'disabled' or r.due_at <= $now)
    and not exists (
        from models m where m.source = r.source and m.name = r.name and m.revision = r.revision
        and m.removed_run is null and not list_contains($lost, m.name)
    )
    and (
        r.tried_revision is distinct from r.revision or r.tried_version is distinct from $version or r.due_at <= $now
    )
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A revision that is to be read; times are aware."""

    name: str
    revision: str
    created_at: datetime | None
    modified_at: datetime | None


class WaitingRevisions:
    """The revisions of one Hub that wait to be read, within a run. `version` is that of modelkin: what one version
    could not read another may."""

    def __init__(self, writer: GraphWriter, source: str, version: str) -> None:
        self._connection = writer.connection
        self._run_id = writer.run_id
        self._source = source
        self._version = version

    def fill(self, now: datetime, lost: Sequence[str], most: int | None, by_downloads: bool) -> int:
        """Put what is to be read in a queue, the newest or most downloaded first, and return its length.

        `lost` are models whose sketches are gone: they are read again.
        """
        order = "r.downloads desc nulls last, r.name" if by_downloads else "r.created_at desc nulls last, r.name"
        most_rows = "" if most is None else f"limit {int(most)}"
        self._connection.execute(
            f"""create or replace temp table queue as
                select row_number() over (order by {order}) as place, r.name, r.revision, r.created_at, r.modified_at
                {_WANTED} order by place {most_rows}""",
            {
                "source": self._source,
                "now": now.astimezone(UTC).replace(tzinfo=None),
                "lost": list(lost),
                "version": self._version,
            },
        )
        row = self._connection.execute("select count(*) from queue").fetchone()
        assert row is not None
        return int(row[0])

    def take(self, first: int, count: int) -> list[Waiting]:
        """Up to `count` of the queue from place `first` on; places count from 1."""
        rows = self._connection.execute(
            "select * exclude (place) from queue where place between ? and ? order by place", [first, first + count - 1]
        ).fetchall()
        return [
            Waiting(name, revision, _aware(created), _aware(modified)) for name, revision, created, modified in rows
        ]

    def corrected_dates(self) -> dict[str, datetime]:
        """Name -> when the Hub says now that a model was created, where the graph has another date."""
        rows = self._connection.execute(
            """select m.name, r.created_at from models m join repositories r using (source, name)
               where m.source = ? and m.removed_run is null and r.created_at is not null
               and m.created_at is distinct from r.created_at""",
            [self._source],
        ).fetchall()
        return {name: when.replace(tzinfo=UTC) for name, when in rows}

    def counts(self) -> tuple[int, int]:
        """Repositories that this run saw; those among them that the graph holds as they are."""
        row = self._connection.execute(
            """select count(*), count(m.model_id) from repositories r
               left join models m on m.source = r.source and m.name = r.name and m.revision = r.revision
                 and m.removed_run is null
               where r.source = ? and r.listed_run = ?""",
            [self._source, self._run_id],
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def _aware(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)
