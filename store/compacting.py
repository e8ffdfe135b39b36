"""Copying a database: as it is, or without the room that it no longer needs.

DuckDB uses what was freed again and gives none of it back, and each run copies the file as it is.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb

from store.copying import copy_file

__all__ = ["copy_database"]

_FREE: Final = 0.5
"""Share of a file that is free, above which only the rest of it is copied. That takes ten times as long."""
_LEAST: Final = 1 << 26
"""Bytes of a file that is worth it, or even to be opened beforehand."""


def copy_database(source: Path, target: Path, spill: Path) -> None:
    """Make `target` a copy of the database `source`, which nobody writes meanwhile; `spill` is a folder for DuckDB.

    Raises OSError, and may leave a part of it.
    """
    if _mostly_free(source):
        with suppress(duckdb.Error):
            _compact(source, target, spill)
            return
        # Whatever is wrong with it, copied as it is it says so to who opens it.
        target.unlink(missing_ok=True)
        target.with_name(f"{target.name}.wal").unlink(missing_ok=True)
    copy_file(source, target)


def _mostly_free(source: Path) -> bool:
    if source.stat().st_size < _LEAST:
        return False
    try:
        with duckdb.connect(str(source), read_only=True) as connection:
            row = connection.execute("select free_blocks, total_blocks from pragma_database_size()").fetchone()
    except duckdb.Error:
        return False
    return row is not None and row[0] > _FREE * row[1]


def _compact(source: Path, target: Path, spill: Path) -> None:
    def quoted(path: Path) -> str:
        return "'" + str(path).replace("'", "''") + "'"

    target.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"set temp_directory = {quoted(spill)}")
        connection.execute(f"attach {quoted(source)} as old (read_only)")
        connection.execute(f"attach {quoted(target)} as new")
        connection.execute("copy from database old to new")
        connection.execute("checkpoint new")
