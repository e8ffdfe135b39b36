"""Reading a file of this machine by range, and saying what became of it when that fails."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from store.errors import SkipError

__all__ = ["LocalReader", "open_below", "read_text_below", "resolve_below"]


class LocalReader:
    """A `RangeReader` over a file descriptor.

    Reads with `pread` and never maps the file: a mapped file that another process cuts short kills the reader
    with SIGBUS, where `pread` comes back short and is reported. The file is also compared with what it was
    when opened, so that no sketch mixes two versions of it.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        state = os.fstat(descriptor)
        self._descriptor: int | None = descriptor
        self._stamp = (state.st_size, state.st_mtime_ns)
        self.path = path
        self.size = state.st_size
        self.bytes_read = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of `buffer` with the bytes from `offset`.

        Raises SkipError: "truncated" when the file ends first, "changed_while_reading" when it was rewritten
        since it was opened, "unreadable" when the disk fails.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        target = buffer.cast("B") if buffer.nbytes else buffer
        filled = 0
        try:
            while filled < target.nbytes:
                count = os.preadv(self._descriptor, [target[filled:]], offset + filled)
                if count == 0:
                    raise SkipError(
                        "truncated",
                        f"{self.path}: expected {target.nbytes} bytes at offset {offset}, found {filled}: "
                        f"the file ends at {offset + filled}",
                    )
                filled += count
                self.bytes_read += count
            state = os.fstat(self._descriptor)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if (state.st_size, state.st_mtime_ns) != self._stamp:
            raise SkipError(
                "changed_while_reading",
                f"{self.path}: it was rewritten while it was read ({self._stamp[0]} bytes before, "
                f"{state.st_size} now); run again when nothing writes to it",
            )

    def prefetch(self, start: int, stop: int) -> None:
        """Tell the system that bytes `start` to `stop` are about to be read in order; only a hint."""
        if self._descriptor is not None and stop > start and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_SEQUENTIAL)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def resolve_below(root: str, path: str) -> str | None:
    """`path` with every link followed, or None when that lies outside `root` (itself without links)."""
    real = os.path.realpath(path)
    inside = real == root or real.startswith(root.rstrip("/") + "/")
    return real if inside else None


def open_below(root: str, path: str, shown: str, expected_size: int | None = None) -> LocalReader:
    """Open the regular file `path`, following links only to places below `root`; messages call it `shown`.

    Raises SkipError: "link_outside_source", "vanished", "unreadable", "not_a_file" (a pipe, a folder, a
    device), or "changed_while_reading" when it has not the `expected_size`, in bytes, that the listing gave.
    """
    real = resolve_below(root, path)
    if real is None:
        raise SkipError("link_outside_source", f"{shown} is a link to a place outside {root}: it is not followed")
    try:
        # The links are resolved: one that appears at the end of the path now was put there since. Without
        # O_NONBLOCK, opening a pipe waits for a writer.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SkipError("vanished", f"{shown} is gone: it was there when the source was listed") from error
    except NotADirectoryError as error:
        raise SkipError("vanished", f"{shown} is gone: a folder above it became a file") from error
    except OSError as error:
        raise _unreadable(shown, error) from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise SkipError("not_a_file", f"{shown}: expected a regular file, found {_kind(state.st_mode)}")
        if expected_size is not None and state.st_size != expected_size:
            raise SkipError(
                "changed_while_reading",
                f"{shown}: expected the {expected_size} bytes of the listing, found {state.st_size}; "
                "run again when nothing writes to it",
            )
        return LocalReader(descriptor, shown)
    except BaseException:
        os.close(descriptor)
        raise


def read_text_below(root: str, path: str, shown: str, limit: int) -> str | None:
    """At most `limit` bytes of a text file as UTF-8 with replacement; None when it is not there.

    Raises what `open_below` and `LocalReader.read_into` raise, but for "vanished".
    """
    try:
        with open_below(root, path, shown) as reader:
            content = bytearray(min(limit, reader.size))
            reader.read_into(0, memoryview(content))
            return content.decode("utf-8", "replace")
    except SkipError as error:
        if error.reason == "vanished":
            return None
        raise


def _unreadable(shown: str, error: OSError) -> SkipError:
    return SkipError("unreadable", f"{shown} cannot be read: {error.strerror or type(error).__name__}")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
