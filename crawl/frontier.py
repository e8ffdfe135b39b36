"""The frontier of a Hub's crawl: what is new is learned in few requests, what has gone is found, nothing is missed.

What is learned is committed page by page, and a watermark moves only when a list was followed down to the one before:
a run that is killed anywhere, or whose list breaks off, costs the next one requests and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from crawl.listing import OVERLAP, Descent, Gone, Listed, Listing
from crawl.source import ModelRef, SkippedModel
from store.errors import RetryError
from store.progress import Progress
from store.repositories import ListingState, Repositories, Repository
from store.waiting import WaitingRevisions
from store.writer import GraphWriter

__all__ = ["FULL_EVERY", "REVISITS", "SMALL_PAGES", "Frontier"]

FULL_EVERY: Final = timedelta(days=7)
"""A list is followed to its end at least that often: what was private and is public, it alone shows."""
SMALL_PAGES: Final = 10
"""A list of so few pages is followed to its end each time: it costs no more than to ask what is new."""
REVISITS: Final = 100
"""Repositories asked for by name in a run, of those that no list showed; as many again of those that had gone."""
MOST_MISSING: Final = 1000

_FOR_NOW: Final = frozenset(
    {"gated", "disabled", "vanished", "refused", "bad_answer", "unreadable", "too_large", "over_budget"}
)
"""Reasons that another day may lift though the revision stays."""

_TAKEN: Final = 1000


@dataclass(slots=True)
class _Walk:
    """One way down a list."""

    ended: bool = False
    full: bool = True
    pages: int = 0
    created: datetime | None = None
    modified: datetime | None = None


class Frontier:
    """What is to be read of a Hub. `refresh` first, then read `queue`, and tell `conclude` how that went.

    `complete` says that the list covers the Hub, so that what is missing from it may be gone: each of those is asked
    for before it leaves the graph. `lost` are names of models whose sketches are gone.
    """

    def __init__(
        self, hub: Listing, writer: GraphWriter, source: str, *, complete: bool, lost: Sequence[str], progress: Progress
    ) -> None:
        self.removed = 0
        self.skipped: dict[str, SkippedModel] = {}
        self._hub, self._writer, self._progress = hub, writer, progress
        self._complete, self._lost = complete, lost
        self._repositories = Repositories(writer, source, writer.version)
        self._waiting = WaitingRevisions(writer, source, writer.version)
        self._now = writer.now()

    def refresh(self) -> None:
        """Learn what is new, changed, renamed or gone.

        Raises StopError when the Hub has no list. Where the list breaks off, what was listed is used, nothing is taken
        for gone, and the next run lists again.
        """
        self._progress.start("listing models", None)
        state = self._repositories.listing(self._hub.selection)
        try:
            whole = self._list(state or ListingState())
            self._check(whole)
        except RetryError as error:
            seen, _ = self.counts()
            self._progress.note(f"the listing broke off after {seen} models ({error}); the next run lists again")
        self._writer.redate(self._waiting.corrected_dates())
        self._progress.finish()

    def counts(self) -> tuple[int, int]:
        """Repositories that this run saw; those among them that the graph holds as they are."""
        return self._waiting.counts()

    def queue(self) -> Iterator[ModelRef]:
        """The revisions to read: at most the Hub's `limit`, the newest first or those with most downloads."""
        length = self._fill(self._hub.limit)
        for first in range(1, length + 1, _TAKEN):
            for waiting in self._waiting.take(first, _TAKEN):
                yield ModelRef(waiting.name, waiting.revision, waiting.created_at, waiting.modified_at)

    def conclude(self, outcomes: Sequence[tuple[ModelRef, str | None]]) -> None:
        """Note how reading went: the reason why a revision could not be read, None where it could."""
        rows = [(ref.name, ref.revision, reason) for ref, reason in outcomes]
        self._repositories.concluded(rows, self._now, _FOR_NOW)

    def _fill(self, most: int | None) -> int:
        return self._waiting.fill(self._now, self._lost, most, self._hub.sort == "downloads")

    def _list(self, state: ListingState) -> bool:
        """Follow the list as far as need be; was that to its end?"""
        first = self._walk_by_creation(state)
        if not first.ended:
            return False
        modified = first.modified
        if not first.full:
            until = None if state.modified_until is None else state.modified_until - OVERLAP
            descent = Descent(until)
            for page in self._hub.pages("lastModified"):
                self._note(page.models, page.skipped)
                if descent.has_ended([model.modified_at for model in page.models]):
                    break
            modified = descent.newest
        self._repositories.followed(
            self._hub.selection,
            ListingState(
                self._watermark(state.created_until, first.created),
                self._watermark(state.modified_until, modified),
                self._now if first.full else state.full_at,
                first.pages if first.full else state.full_pages,
            ),
        )
        return first.full

    def _walk_by_creation(self, state: ListingState) -> _Walk:
        walk = _Walk()
        descent = Descent(None)
        begun = self._now
        for page in self._hub.pages("createdAt" if state.full_at else self._hub.sort):
            walk.pages += 1
            if walk.pages == 1:
                # The Hub's clock at the start: what comes while a list is read may stand above its first page.
                begun = page.date or begun
                walk.full = (
                    state.full_at is None
                    or state.created_until is None
                    or state.full_pages <= SMALL_PAGES
                    or begun - state.full_at >= FULL_EVERY
                )
                descent = Descent(None if walk.full or not state.created_until else state.created_until - OVERLAP)
                self._now = begun
            self._note(page.models, page.skipped)
            walk.created = _latest(walk.created, *(model.created_at for model in page.models))
            walk.modified = _latest(walk.modified, *(model.modified_at for model in page.models))
            if descent.has_ended([model.created_at for model in page.models]):
                break
            limit = self._hub.limit
            if limit is not None and state.full_at is None and self._fill(limit) >= limit:
                # Enough to read tonight: the rest of the list is for the nights to come.
                return walk
        walk.ended = True
        return walk

    def _watermark(self, before: datetime | None, newest: datetime | None) -> datetime | None:
        """A model from the future must not hide all that come until then."""
        reached = None if newest is None else min(newest, self._now)
        return _latest(before, reached)

    def _note(self, models: Sequence[Listed], skipped: Sequence[SkippedModel]) -> None:
        self._repositories.note([_row(model) for model in models], self._now)
        self.skipped.update({each.name: each for each in skipped})
        self._progress.advance(len(models), models[-1].name if models else "")

    def _check(self, whole: bool) -> None:
        """Ask for each repository that should be in the list and is not, and for some that nobody has seen for long."""
        known = self._repositories
        names = known.perhaps_renamed()
        if whole and self._complete:
            names += known.missing(MOST_MISSING)
        else:
            names += known.oldest(REVISITS)
        names += known.due(self._now, REVISITS)
        for name in dict.fromkeys(names):
            self._revisit(name)
            self._progress.advance(1, name)

    def _revisit(self, name: str) -> None:
        found = self._hub.ask(name)
        if isinstance(found, SkippedModel):
            self.skipped[name] = found
        elif isinstance(found, Listed) and found.name == name:
            self._repositories.note([_row(found)], self._now)
        elif isinstance(found, Listed):
            self._progress.note(f"{name} is now {found.name}")
            self.removed += not self._repositories.rename(name, _row(found), self._now)
        else:
            self._put(name, found)

    def _put(self, name: str, gone: Gone) -> None:
        with self._writer.transaction():
            if gone.state in ("deleted", "private"):
                self.removed += len(self._writer.remove([name]))
            self._repositories.put(name, gone.state, self._now)


def _row(model: Listed) -> Repository:
    return Repository(**asdict(model))


def _latest(*times: datetime | None) -> datetime | None:
    return max((when for when in times if when is not None), default=None)
