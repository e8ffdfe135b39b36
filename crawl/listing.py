"""What a Hub's list says of its models, page by page, and when a list that is sorted by time has told what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, runtime_checkable

from crawl.source import SkippedModel

__all__ = ["OVERLAP", "Descent", "Gone", "Listed", "ListedPage", "Listing", "Sort", "State"]

Sort = Literal["createdAt", "lastModified", "downloads"]
State = Literal["live", "renamed", "deleted", "private", "gated", "disabled"]

OVERLAP: Final = timedelta(hours=6)
"""How far behind the newest time seen a list is read again: its index may lag, and its machines' clocks differ."""

_DISORDER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Listed:
    """A repository as the Hub tells it now. Times are UTC and aware; `hub_id` survives a change of name."""

    name: str
    revision: str
    hub_id: str | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    downloads: int | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One page of a list, what of it is no model, and when the Hub gave it by its own clock."""

    models: Sequence[Listed]
    skipped: Sequence[SkippedModel]
    date: datetime | None


@dataclass(frozen=True, slots=True)
class Gone:
    """What the Hub says of a repository that it does not show."""

    state: State
    message: str


@runtime_checkable
class Listing(Protocol):
    """A source whose list is too long to be read whole every night, and which can be asked for one model."""

    @property
    def selection(self) -> str:
        """What narrows the list, as JSON; "" when nothing does."""

    @property
    def limit(self) -> int | None:
        """The most models to read in a run."""

    @property
    def sort(self) -> Sort:
        """The order in which models are listed and read the first time."""

    def pages(self, sort: Sort) -> Iterator[ListedPage]:
        """The list, newest (or most downloaded) first, as far as who asks goes on.

        Raises StopError when there is no list, and RetryError when it breaks off.
        """

    def ask(self, name: str) -> Listed | Gone | SkippedModel:
        """What has become of one repository; under another name when it was renamed. Raises RetryError."""


class Descent:
    """Follows a list that is sorted by time, newest first, until it is older than `until`.

    A server that ignores the order is told from one that keeps it: then the list ends where it ends.
    """

    def __init__(self, until: datetime | None) -> None:
        self.newest: datetime | None = None
        self._until = until
        self._last: datetime | None = None
        self._in_order = True

    def has_ended(self, times: Sequence[datetime | None]) -> bool:
        """Is all that may be new told, after a page with these times?"""
        known = [when for when in times if when is not None]
        for when in known:
            if self._last is not None and when > self._last + _DISORDER:
                self._in_order = False
            self._last = when
            self.newest = when if self.newest is None else max(self.newest, when)
        return self._until is not None and self._in_order and bool(known) and max(known) < self._until
