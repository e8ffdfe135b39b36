"""Generations: a graph is a folder whose CURRENT names the one database that readers open.

DuckDB lets one process write and shuts all others out meanwhile, readers too. So a run builds the next generation
beside the current one and then replaces CURRENT; readers keep what they opened. A killed run leaves the current
generation as it was, and its half-built one for the next run to go on from.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from store.errors import StopError
from store.format import SCHEMA_VERSION
from store.schema import create_schema, sketches_view
from store.shards import fsync_directory

__all__ = ["CURRENT", "KEPT_GENERATIONS", "GraphFolder", "open_reader"]

CURRENT: Final = "CURRENT"
KEPT_GENERATIONS: Final = 2
_NAME: Final = re.compile(r"graph-(\d{6})\.duckdb")


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
            return None
        found = _NAME.fullmatch(text)
        if found is None:
            raise StopError(
                f"{self.path / CURRENT}: expected the name of a generation (graph-000001.duckdb), found {text[:60]!r}; "
                "write the name of the newest graph-*.duckdb into it"
            )
        return int(found.group(1))

    def database(self, generation: int) -> Path:
        return self.path / f"graph-{generation:06d}.duckdb"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the graph for writing; the lock dies with the process, whatever kills it.

        Raises StopError when another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StopError(f"{self.path}: cannot be written ({error.strerror})") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
                raise StopError(
                    f"{self.path}: process {holder or '(unknown)'} is writing to this graph; wait until it is done. "
                    "Readers are not affected"
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def open_building(self) -> tuple[duckdb.DuckDBPyConnection, bool]:
        """The database that the next generation grows in, and whether it goes on from a killed run.

        Call with the lock held.
        """
        base = self.current() or 0
        resumed = self._resume(base)
        if resumed is not None:
            return resumed, True
        self.discard_building()
        if base:
            # Renamed into place only when complete, so that a kill during the copy is never taken for a half-built run.
            copy = self.path / "copy.tmp"
            shutil.copyfile(self.database(base), copy)
            copy.replace(self.building)
        connection = duckdb.connect(str(self.building))
        if base:
            _check_schema(connection, self.path)
            connection.execute("update settings set value = ? where key = 'base_generation'", [str(base)])
        else:
            connection.begin()
            create_schema(connection)
            connection.executemany(
                "insert into settings values (?, ?)",
                [("schema_version", str(SCHEMA_VERSION)), ("base_generation", "0"), ("mode", "")],
            )
            connection.commit()
        return connection, False

    def _resume(self, base: int) -> duckdb.DuckDBPyConnection | None:
        if not self.building.exists():
            return None
        try:
            connection = duckdb.connect(str(self.building))
            row = connection.execute("select value from settings where key = 'base_generation'").fetchone()
        except duckdb.Error:
            return None
        if row is not None and row[0] == str(base):
            return connection
        connection.close()
        return None

    def discard_building(self) -> None:
        for name in ("building.duckdb", "building.duckdb.wal", "copy.tmp"):
            (self.path / name).unlink(missing_ok=True)

    def publish(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Close the building database and make it the current generation; returns its number.

        The order is what makes it safe: data on disk, then the file's final name, then CURRENT.
        """
        connection.execute("checkpoint")
        connection.close()
        generation = (self.current() or 0) + 1
        with self.building.open("rb") as file:
            os.fsync(file.fileno())
        self.building.replace(self.database(generation))
        fsync_directory(self.path)
        temporary = self.path / f"{CURRENT}.tmp"
        with temporary.open("w", encoding="ascii") as pointer:
            pointer.write(self.database(generation).name + "\n")
            pointer.flush()
            os.fsync(pointer.fileno())
        temporary.replace(self.path / CURRENT)
        fsync_directory(self.path)
        self._prune(generation)
        return generation

    def _prune(self, current: int) -> None:
        for path in self.path.glob("graph-*.duckdb"):
            found = _NAME.fullmatch(path.name)
            if found and not current - KEPT_GENERATIONS < int(found.group(1)) <= current:
                path.unlink(missing_ok=True)

    def remove_orphans(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Delete shards that no model refers to: what a killed run wrote before it could say so.

        Call with the lock held. Generations that are kept for readers refer only to shards that the newest one
        refers to too, for rows of models are never deleted.
        """
        known = {row[0] for row in connection.execute("select distinct shard from models").fetchall()}
        for path in self.sketches.glob("*/*"):
            if path.relative_to(self.path).as_posix() not in known:
                path.unlink(missing_ok=True)


def _check_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    row = connection.execute("select value from settings where key = 'schema_version'").fetchone()
    version = row[0] if row else "unknown"
    if version != str(SCHEMA_VERSION):
        connection.close()
        raise StopError(f"{path}: the graph has schema version {version}, this modelkin knows {SCHEMA_VERSION}")


def open_reader(path: Path | str) -> duckdb.DuckDBPyConnection:
    """Open the current generation read-only, with the view `sketches` over the graph's shards.

    Raises StopError when there is no graph, or it was written by another schema version.
    """
    folder = GraphFolder(path)
    generation: int | None
    for _ in range(5):
        generation = folder.current()
        if generation is None:
            raise StopError(
                f"{folder.path}: no graph here; make one with `modelkin index SOURCE --graph {folder.path}`"
            )
        try:
            connection = duckdb.connect(str(folder.database(generation)), read_only=True)
            break
        except duckdb.IOException as error:
            # A writer may have published and pruned between reading CURRENT and opening: look again.
            failure = error
    else:
        raise StopError(f"{folder.path}: generation {generation} cannot be opened ({failure})") from failure
    _check_schema(connection, folder.path)
    rows = connection.execute("select distinct shard from models where removed_run is null order by 1").fetchall()
    shards = [str((folder.path / row[0]).resolve()) for row in rows]
    present = [shard for shard in shards if Path(shard).exists()]
    if present:
        connection.execute(sketches_view(present))
    return connection
