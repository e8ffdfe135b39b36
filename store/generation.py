"""Generations: a graph is a folder whose CURRENT names the one database that readers open.

DuckDB lets one process write and shuts all others out meanwhile, readers too. So a run builds the next generation
beside the current one and then replaces CURRENT; readers keep what they opened. A killed run leaves the current
generation as it was, and its half-built one for the next run to go on from.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from store.compacting import copy_database
from store.errors import StopError
from store.format import SCHEMA_VERSION
from store.history import AsOf
from store.lock import LOCK, lock
from store.migrations import migrate, schema_version
from store.opening import open_database, show_sketches
from store.schema import create_schema
from store.shards import fsync_directory

__all__ = [
    "CURRENT",
    "KEPT_GENERATIONS",
    "GraphFolder",
    "check_schema",
    "is_graph",
    "open_generation",
    "open_reader",
]

CURRENT: Final = "CURRENT"
KEPT_GENERATIONS: Final = 2
_NAME: Final = re.compile(r"graph-(\d{6})\.duckdb")


def is_graph(names: Iterable[str]) -> bool:
    """Are these the files of a graph, finished or not?"""
    present = set(names)
    return LOCK in present and bool(present & {CURRENT, "building.duckdb"})


class GraphFolder:
    """The files of one Model Graph. Holds no connection."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.building = self.path / "building.duckdb"

    @property
    def sketches(self) -> Path:
        return self.path / "sketches"

    def current(self) -> int | None:
        """Number of the current generation; None when there is no graph here.

        Raises StopError when CURRENT is damaged.
        """
        try:
            text = (self.path / CURRENT).read_text(encoding="ascii", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            # The first generation may lie there without a pointer: its run was killed while it was published.
            if all(generation == 1 for generation in self.generations()):
                return None
            raise self._damaged("nothing") from None
        found = _NAME.fullmatch(text)
        if found is None:
            raise self._damaged(repr(text[:60]))
        return int(found.group(1))

    def _damaged(self, found: str) -> StopError:
        return StopError(
            f"{self.path / CURRENT}: expected the name of a generation (graph-000001.duckdb), found {found}; "
            "write the name of the newest graph-*.duckdb into it, or run `modelkin repair`"
        )

    def generations(self) -> list[int]:
        """Numbers of all generations that lie here, oldest first."""
        names = (_NAME.fullmatch(path.name) for path in self.path.glob("graph-*.duckdb"))
        return sorted(int(found.group(1)) for found in names if found)

    def database(self, generation: int) -> Path:
        return self.path / f"graph-{generation:06d}.duckdb"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the graph for writing; the lock dies with the process, whatever kills it.

        Raises StopError when another process holds it.
        """
        with lock(self.path):
            yield

    def open_building(self) -> tuple[duckdb.DuckDBPyConnection, bool]:
        """The database that the next generation grows in, and whether it goes on from a killed run.

        Call with the lock held.
        """
        base = self.finish_swap(self.current() or 0)
        resumed = self._resume(base)
        if resumed is not None:
            return resumed, True
        self.discard_building()
        if base and not self.database(base).exists():
            raise self._damaged(f"{self.database(base).name}, which is not there")
        if base:
            # Renamed into place only when complete, so that a kill during the copy is never taken for a half-built run.
            copy = self.path / "copy.tmp"
            try:
                copy_database(self.database(base), copy, self.path / "building.duckdb.tmp")
                _fsync(copy)
                copy.replace(self.building)
            except OSError:
                copy.unlink(missing_ok=True)
                raise
        connection = _to_write(self.building)
        if base:
            try:
                migrate(connection, schema_version(connection, self.path))
            except StopError:
                connection.close()
                self.discard_building()
                raise
            connection.execute("update settings set value = ? where key = 'base_generation'", [str(base)])
        else:
            connection.begin()
            create_schema(connection)
            connection.executemany(
                "insert into settings values (?, ?)",
                [
                    ("schema_version", str(SCHEMA_VERSION)),
                    ("base_generation", "0"),
                    ("mode", ""),
                    ("use_metadata", ""),
                    ("inferred", ""),
                ],
            )
            connection.commit()
        return connection, False

    def finish_swap(self, current: int) -> int:
        """Make the generation current whose run was killed between the two renames of `publish`; returns the number.

        Call with the lock held. Only after such a kill does the pointer lie ready for a whole generation while nothing
        is being built.
        """
        pointer = self.path / f"{CURRENT}.tmp"
        if pointer.exists() and not self.building.exists() and self.database(current + 1).exists():
            if pointer.read_text(encoding="ascii", errors="replace") != self.database(current + 1).name + "\n":
                return current
            self._point(pointer)
            return current + 1
        return current

    def _point(self, pointer: Path) -> None:
        pointer.replace(self.path / CURRENT)
        fsync_directory(self.path)

    def _resume(self, base: int) -> duckdb.DuckDBPyConnection | None:
        if not self.building.exists():
            return None
        try:
            connection = _to_write(self.building)
        except duckdb.Error:
            return None
        try:
            version = schema_version(connection, self.path)
            row = connection.execute("select value from settings where key = 'base_generation'").fetchone()
        except (StopError, duckdb.Error):
            # No graph, or one of a newer schema.
            version, row = 0, None
        if row != (str(base),):
            connection.close()
            return None
        migrate(connection, version)
        return connection

    def discard_building(self) -> None:
        """Remove a half-built generation with all that DuckDB keeps beside it: logs, folders it spilled to."""
        for path in (*self.path.glob("building.duckdb*"), *self.path.glob("copy.tmp*"), self.path / f"{CURRENT}.tmp"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def publish(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Close the building database and make it the current generation; returns its number.

        The order is what makes it safe: data on disk, then the file's final name, then CURRENT. Whatever needs space
        comes before the first of the two renames, so that a full disk leaves the building database to go on from.
        """
        connection.execute("checkpoint")
        connection.close()
        generation = (self.current() or 0) + 1
        _fsync(self.building)
        pointer = self._pointer_to(generation)
        self.building.replace(self.database(generation))
        fsync_directory(self.path)
        self._point(pointer)
        self._prune(generation)
        return generation

    def _pointer_to(self, generation: int) -> Path:
        pointer = self.path / f"{CURRENT}.tmp"
        pointer.write_text(self.database(generation).name + "\n", encoding="ascii")
        _fsync(pointer)
        return pointer

    def point_to(self, generation: int) -> None:
        """Make an older generation the current one, as a repair does. Call with the lock held."""
        self._point(self._pointer_to(generation))

    def _prune(self, current: int) -> None:
        for generation in self.generations():
            if not current - KEPT_GENERATIONS < generation <= current:
                self.database(generation).unlink(missing_ok=True)

    def remove_orphans(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Delete shards that no model refers to: what a killed run wrote before it could say so. Returns which.

        Call with the lock held. Generations that are kept for readers refer only to shards that the newest one
        refers to too, for rows of models are never deleted.
        """
        known = {row[0] for row in connection.execute("select distinct shard from models").fetchall()}
        removed = []
        for path in self.sketches.glob("*/*"):
            name = "/".join(path.parts[-3:])
            if name not in known and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(name)
        return removed


def _to_write(database: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(database))
    # Where Python is interactive, long queries would draw their bars across the progress of the run.
    connection.execute("set enable_progress_bar = false")
    return connection


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def check_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raises StopError when the graph has another schema version than this modelkin."""
    if (version := schema_version(connection, path)) != SCHEMA_VERSION:
        raise StopError(f"{path}: the graph has schema version {version}, this modelkin knows {SCHEMA_VERSION}")


def open_generation(folder: GraphFolder, as_of: AsOf | None = None) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Open the current generation read-only, its tables alone; also returns its number.

    `as_of` shows every table as it was after that run, or after the last one that had finished by then. A graph of an
    older schema is brought up to date in memory; its files stay as they are. Raises StopError when there is no graph,
    it was written by a newer schema version, or is too large to be brought up to date by a reader, and for an `as_of`
    that means no finished run.
    """
    generation: int | None
    for _ in range(5):
        generation = folder.current()
        if generation is None:
            raise StopError(
                f"{folder.path}: no graph here; make one with `modelkin index SOURCE --graph {folder.path}`"
            )
        try:
            connection = open_database(folder.database(generation), folder.path, as_of)
            break
        except duckdb.Error as error:
            # A writer may have published and pruned between reading CURRENT and opening: look again.
            failure = error
    else:
        raise StopError(f"{folder.path}: generation {generation} cannot be opened ({failure})") from failure
    return connection, generation


def open_reader(path: Path | str, as_of: AsOf | None = None) -> duckdb.DuckDBPyConnection:
    """Open the current generation read-only, with the view `sketches` over the graph's shards.

    Raises StopError as `open_generation` does, and when a shard is damaged.
    """
    folder = GraphFolder(path)
    connection, _ = open_generation(folder, as_of)
    try:
        show_sketches(connection, folder.path)
    except StopError:
        connection.close()
        raise
    return connection
