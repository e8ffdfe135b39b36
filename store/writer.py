"""One run that writes: models in, generation out. All SQL that changes a graph is here, in
`store.lineage`, in `store.repositories` and in `store.mending`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

from store.errors import StopError
from store.format import SketchFormat
from store.generation import GraphFolder
from store.history import note_placements
from store.records import Model, Skipped
from store.shards import write_named_shard

__all__ = ["GraphWriter"]

_MODEL_COLUMNS: Final = tuple(f.name for f in fields(Model) if f.name not in ("sketches", "claims"))

Backbone = Sequence[tuple[str, tuple[int, ...], int, str]]
"""(canonical name, shape, elements, role) of the tensors that define an architecture."""


class GraphWriter:
    """A run in progress: a context manager that holds the graph's lock.

    Leaving it with an exception keeps what was committed in the half-built generation: the next run goes on from
    there. `publish` makes it the current generation.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        command: str,
        source: str | None,
        version: str,
        clock: Callable[[], datetime],
        form: SketchFormat | None = None,
    ) -> None:
        self.folder = GraphFolder(path)
        self.form = form or SketchFormat()
        self._command = command
        self._source = source
        self.version = version
        self._clock = clock
        self._stack = ExitStack()
        self.connection: duckdb.DuckDBPyConnection
        self.run_id = 0
        self.resumed = False
        self._shards = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                stack.enter_context(self.folder.lock())
                self.connection, self.resumed = self.folder.open_building()
                stack.callback(self._close)
                self.folder.remove_orphans(self.connection)
                self._begin_run()
            except (OSError, duckdb.Error) as error:
                raise self._stop(error) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if isinstance(error, (duckdb.Error, OSError)):
            raise self._stop(error) from error
        if isinstance(error, RuntimeError) and str(error) == "Query interrupted":
            # What DuckDB makes of Ctrl-C.
            raise KeyboardInterrupt from error

    def _close(self) -> None:
        try:
            # A query that Ctrl-C broke off runs on, and closing would wait for it.
            self.connection.interrupt()
            self.connection.close()
        except duckdb.Error:
            # Closing flushes the write-ahead log; on a full disk that fails, and the log is replayed by the next run.
            return

    def _stop(self, error: Exception) -> StopError:
        first_line = str(error).partition("\n")[0]
        return StopError(
            f"{self.folder.path}: writing failed ({first_line}). The current generation is untouched; "
            "free some space or mend the disk and run the same command again: it goes on where this one stopped"
        )

    def now(self) -> datetime:
        """The time by this machine's clock, aware."""
        return self._clock().astimezone(UTC)

    def _now(self) -> datetime:
        return self.now().replace(tzinfo=None)

    def _begin_run(self) -> None:
        c = self.connection
        c.execute("update runs set status = 'interrupted' where status = 'running'")
        row = c.execute("select coalesce(max(run_id), 0) + 1 from runs").fetchone()
        assert row is not None
        self.run_id = int(row[0])
        c.execute(
            "insert into runs (run_id, command, source, started_at, status, version) values (?, ?, ?, ?, 'running', ?)",
            [self.run_id, self._command, self._source, self._now(), self.version],
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        self.connection.begin()
        try:
            yield
            self.connection.commit()
        except BaseException:
            # A commit that fails, on a full disk say, has rolled back already.
            with suppress(duckdb.Error):
                self.connection.rollback()
            raise

    def known(self) -> dict[str, str]:
        """Name -> revision of this source's live models, those of a killed run included.

        Where the shard is gone the revision is empty: the model is read again, which is how a damaged shard is mended.
        """
        shards = self.connection.execute(
            "select distinct shard from models where source = ? and removed_run is null", [self._source]
        ).fetchall()
        lost = [shard for (shard,) in shards if not (self.folder.path / shard).exists()]
        # As columns: a tuple a model would take longer to collect than to read.
        rows = self.connection.sql(
            """select name, if(shard in (select unnest(?::varchar[])), '', revision) as revision from models
               where source = ? and removed_run is null""",
            params=[lost, self._source],
        ).to_arrow_table()
        return dict(zip(rows["name"].to_pylist(), rows["revision"].to_pylist(), strict=True))

    def add(self, models: Sequence[Model], skipped: Iterable[Skipped], backbones: Mapping[str, Backbone]) -> None:
        """Store a batch: shards first, then all rows in one transaction. `backbones` is keyed by architecture."""
        row = self.connection.execute("select coalesce(max(model_id), 0) from models").fetchone()
        assert row is not None
        first = int(row[0]) + 1
        by_architecture: dict[str, list[int]] = defaultdict(list)
        for at, model in enumerate(models):
            by_architecture[model.architecture].append(at)
        shards: dict[str, str] = {}
        for architecture, members in by_architecture.items():
            self._shards += 1
            name = f"{self.run_id:06d}-{first:09d}-{self._shards:05d}.parquet"
            path = self.folder.sketches / f"arch={architecture}" / name
            shard = write_named_shard(path, [(first + at, models[at].sketches) for at in members], self.form)
            shards[architecture] = shard.relative_to(self.folder.path).as_posix()
        rows = [
            {
                "model_id": first + at,
                **{name: _naive(getattr(model, name)) for name in _MODEL_COLUMNS},
                "shard": shards[model.architecture],
                "added_run": self.run_id,
            }
            for at, model in enumerate(models)
        ]
        claims = [
            {"model_id": first + at, "field": k.field, "value": k.value, "stated_in": k.stated_in}
            for at, model in enumerate(models)
            for k in model.claims
        ]
        with self.transaction():
            self._retire([model.name for model in models])
            self._insert("models", rows)
            self._insert("claims", claims)
            self._insert_architectures(models, backbones)
            self.skip(skipped)

    def skip(self, skipped: Iterable[Skipped]) -> None:
        """Record what could not be ingested."""
        self._insert(
            "skipped",
            [
                {
                    "run_id": self.run_id,
                    "source": self._source or "",
                    **{f.name: getattr(row, f.name) for f in fields(Skipped)},
                }
                for row in skipped
            ],
        )

    def redate(self, created: Mapping[str, datetime]) -> None:
        """Name -> when the source says now that the model was created, of models that are unchanged otherwise.

        Where it says something else than before, and dates weigh in, the next update solves the model's tree again.
        """
        if not created:
            return
        rows = [{"name": name, "created_at": _naive(when)} for name, when in created.items()]
        with self.transaction():
            self.connection.register("incoming", pa.Table.from_pylist(rows))
            moved = self.connection.execute(
                """update models set created_at = incoming.created_at from incoming
                   where models.name = incoming.name and source = ? and removed_run is null
                   and models.created_at is distinct from incoming.created_at
                   returning model_id""",
                [self._source],
            ).fetchall()
            self.connection.unregister("incoming")
            self.connection.execute(
                """update components set stale = true where list_contains(?, model_id)
                   and exists (from settings where key = 'use_metadata' and value = 'true')""",
                [[row[0] for row in moved]],
            )

    def remove(self, names: Iterable[str]) -> list[str]:
        """Models that the source no longer holds: their rows stay, closed by this run. Returns those that were live."""
        return self._retire(list(names))

    def _retire(self, names: list[str]) -> list[str]:
        if not names:
            return []
        rows = self.connection.execute(
            """update models set removed_run = ? where source = ? and removed_run is null and list_contains(?, name)
               returning name""",
            [self.run_id, self._source, names],
        ).fetchall()
        return [row[0] for row in rows]

    def _insert_architectures(self, models: Sequence[Model], backbones: Mapping[str, Backbone]) -> None:
        known = {row[0] for row in self.connection.execute("select architecture from architectures").fetchall()}
        for model in models:
            key = model.architecture
            if key in known:
                continue
            known.add(key)
            tensors = backbones[key]
            self.connection.execute(
                "insert into architectures values (?, ?, ?, ?)",
                [key, len(tensors), sum(n for _, _, n, _ in tensors), model.name],
            )
            self._insert(
                "tensors",
                [
                    {"architecture": key, "tensor": name, "shape": list(shape), "elements": n, "role": role}
                    for name, shape, n, role in tensors
                ],
            )

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            incoming = pa.Table.from_pylist([dict(row) for row in rows])
            self.connection.register("incoming", incoming)
            self.connection.execute(f"insert into {table} by name select * from incoming")
            self.connection.unregister("incoming")

    def finish_run(self, **columns: object) -> None:
        """Set columns of this run's row."""
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self.connection.execute(f"update runs set {assignments} where run_id = ?", [*columns.values(), self.run_id])

    def publish(self) -> int:
        """Finish the run and make this the current generation; returns its number."""
        with self.transaction():
            note_placements(self.connection, self.run_id)
            self.finish_run(status="done", finished_at=self._now())
        return self.folder.publish(self.connection)


def _naive(value: object) -> object:
    """DuckDB's TIMESTAMP holds UTC without a zone."""
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
