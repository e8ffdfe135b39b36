"""A Hub in memory: a list in pages that shift while they are read, a clock of its own, and whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from crawl.frontier import Frontier
from crawl.listing import Gone, Listed, ListedPage, Sort
from crawl.source import ModelRef, SkippedModel
from store.errors import RetryError
from store.progress import SilentProgress
from store.schema import create_schema
from store.writer import GraphWriter
from tests.small_graph import writer as make_writer

__all__ = ["SOURCE", "ListedHub", "filled", "in_memory", "live", "run"]

SOURCE = "hub:memory"


@dataclass
class ListedHub:
    """Repositories by name, listed in pages by offset as a careless server would, so that pages shift."""

    page_size: int = 3
    limit: int | None = None
    sort: Sort = "createdAt"
    selection: str = ""
    now: datetime = datetime(2031, 1, 1, tzinfo=UTC)
    repositories: dict[str, Listed] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    pages_asked: int = 0
    asked: list[str] = field(default_factory=list)
    between: Callable[[int], None] = lambda page: None
    """Called after each page, with the number of pages asked for so far: what happens meanwhile, or goes wrong."""
    _made: int = 0

    def create(self, name: str) -> None:
        self._made += 1
        self.moved.pop(name, None)
        self.repositories[name] = Listed(name, f"{self._made:040x}", f"id{self._made}", self.now, self.now)

    def push(self, name: str) -> None:
        self._made += 1
        old = self.repositories[name]
        self.repositories[name] = Listed(name, f"{self._made:040x}", old.hub_id, old.created_at, self.now)

    def delete(self, name: str) -> None:
        del self.repositories[name]

    def rename(self, old: str, new: str) -> None:
        was = self.repositories.pop(old)
        self.moved.pop(new, None)
        self.moved[old] = new
        self.repositories[new] = Listed(new, was.revision, was.hub_id, was.created_at, was.modified_at)

    def pass_time(self, **amount: float) -> None:
        self.now += timedelta(**amount)

    def shown(self) -> dict[str, str]:
        return {name: each.revision for name, each in self.repositories.items() if name not in self.private}

    def pages(self, sort: Sort) -> Iterator[ListedPage]:
        offset = 0
        while True:
            self.pages_asked += 1
            rows = [each for name, each in self.repositories.items() if name not in self.private]
            rows.sort(key=lambda each: (_key(each, sort), each.name), reverse=True)
            page = rows[offset : offset + self.page_size]
            offset += self.page_size
            yield ListedPage(page, (), self.now)
            self.between(self.pages_asked)
            if offset >= len(rows):
                return

    def ask(self, name: str) -> Listed | Gone | SkippedModel:
        self.asked.append(name)
        while name not in self.repositories and name in self.moved:
            name = self.moved[name]
        if name in self.private:
            return Gone("private", "401")
        return self.repositories.get(name) or Gone("deleted", "404")


def _key(each: Listed, sort: Sort) -> float:
    if sort == "downloads":
        return each.downloads or 0
    when = each.created_at if sort == "createdAt" else each.modified_at
    return when.timestamp() if when else 0.0


def run(hub: ListedHub, writer: GraphWriter, complete: bool = True, reading: int | None = None) -> Frontier:
    """A night: learn, then read (at most `reading` models, and then die); whatever is read can be."""
    writer._begin_run()
    frontier = Frontier(hub, writer, SOURCE, complete=complete, lost=(), progress=SilentProgress())
    frontier.refresh()
    for at, ref in enumerate(frontier.queue()):
        if at == reading:
            raise RetryError("killed")
        c = writer.connection
        writer.remove([ref.name])
        first = c.execute("select coalesce(max(model_id), 0) + 1 from models").fetchone()
        assert first is not None
        _insert(writer, ref, first[0])
        frontier.conclude([(ref, None)])
    return frontier


def in_memory() -> GraphWriter:
    """A run whose tables are in memory; its clock says 2024, the Hub's 2031."""
    writer = make_writer(Path("nowhere"), SOURCE)
    writer.connection = duckdb.connect()
    create_schema(writer.connection)
    return writer


def _insert(writer: GraphWriter, ref: ModelRef, model_id: int) -> None:
    created = ref.created_at and ref.created_at.replace(tzinfo=None)
    writer.connection.execute(
        """insert into models by name select ? as model_id, ? as name, ? as revision, ? as source, '' as architecture,
             'F32' as dtype, 0 as tensors, 0 as parameters, 0 as bytes_total, 0 as bytes_read, '' as content_hash,
             ?::timestamp as created_at, '' as shard, ? as added_run, 'model' as kind""",
        [
            model_id,
            ref.name,
            ref.revision,
            SOURCE,
            created,
            writer.run_id,
        ],
    )


def filled(count: int, **options: Any) -> ListedHub:
    """A Hub with models org/m0, org/m1, ..., a day apart."""
    hub = ListedHub(**options)
    for at in range(count):
        hub.create(f"org/m{at}")
        hub.pass_time(days=1)
    return hub


def live(writer: GraphWriter) -> dict[str, str]:
    """Name -> revision of the live models."""
    rows = writer.connection.execute("select name, revision from live_models").fetchall()
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)
