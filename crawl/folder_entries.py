"""What one folder directly holds: files, sub-folders, and entries that must not be followed or named."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from crawl.layout import is_weight
from crawl.local_file import resolve_below
from crawl.names import escaped, is_plain_path
from store.errors import SkipError

__all__ = ["Entries", "LocalFile", "RefusedEntryError", "newest_weight", "read_entries"]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file: its name in its folder, its size in bytes and its modification time in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


class RefusedEntryError(SkipError):
    """An entry of a folder that is left alone; `path` is where it is below the source, fit to be shown."""

    def __init__(self, reason: str, path: str, message: str) -> None:
        super().__init__(reason, message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Entries:
    """One folder: files and sub-folders (by name, sorted), and what was refused."""

    files: tuple[LocalFile, ...]
    folders: tuple[str, ...]
    skipped: tuple[RefusedEntryError, ...]


def read_entries(root: str, folder: str) -> Entries:
    """The entries of `folder` (below the real path `root`; "" for the root), less those beginning with a dot.

    Raises OSError when the folder cannot be read.
    """
    files: list[LocalFile] = []
    folders: list[str] = []
    skipped: list[RefusedEntryError] = []
    with os.scandir(f"{root}/{folder}" if folder else root) as scan:
        entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        shown = escaped(f"{folder}/{entry.name}" if folder else entry.name)
        try:
            found = _classify(root, entry, shown)
        except RefusedEntryError as refused:
            skipped.append(refused)
            continue
        if isinstance(found, LocalFile):
            files.append(found)
        elif found is not None:
            folders.append(found)
    return Entries(tuple(files), tuple(folders), tuple(skipped))


def newest_weight(files: Iterable[LocalFile]) -> datetime | None:
    """When the newest weight file was modified, to the second; None when there is none or no such date."""
    times = [file.mtime_ns for file in files if is_weight(file.name)]
    try:
        return datetime.fromtimestamp(max(times) // 1_000_000_000, UTC) if times else None
    except (OverflowError, ValueError, OSError):
        # File systems keep times that no calendar has.
        return None


def _classify(root: str, entry: os.DirEntry[str], shown: str) -> LocalFile | str | None:
    """A file, the name of a sub-folder, or None for what is of no interest. Raises RefusedEntryError."""
    if not is_plain_path(entry.name):
        if entry.is_dir() or is_weight(entry.name):
            raise RefusedEntryError(
                "bad_name",
                shown,
                f"{shown}: expected a name in UTF-8 without control characters and backslashes; rename it",
            )
        return None
    try:
        if entry.is_symlink():
            _check_link(root, entry, shown)
        elif entry.is_dir(follow_symlinks=False):
            return entry.name
        state = entry.stat()
    except FileNotFoundError:
        # Deleted while the folder was listed.
        return None
    except OSError as error:
        message = f"{shown} cannot be read: {error.strerror or type(error).__name__}"
        raise RefusedEntryError("unreadable", shown, message) from error
    if stat.S_ISREG(state.st_mode):
        return LocalFile(entry.name, state.st_size, state.st_mtime_ns)
    if not stat.S_ISDIR(state.st_mode) and is_weight(entry.name):
        raise RefusedEntryError(
            "not_a_file", shown, f"{shown}: expected a regular file, found a pipe, socket or device"
        )
    return None


def _check_link(root: str, entry: os.DirEntry[str], shown: str) -> None:
    if resolve_below(root, entry.path) is None:
        raise RefusedEntryError(
            "link_outside_source",
            shown,
            f"{shown} is a link to a place outside the source: it is not followed; copy what it leads to",
        )
    try:
        entry.stat()
    except OSError as error:
        # Nothing there, or links in a circle.
        raise RefusedEntryError("broken_link", shown, f"{shown} is a link that leads nowhere") from error
