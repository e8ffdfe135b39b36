"""Copying a file within a disk: where the file system can, the copy shares its blocks until one of the two is written.

XFS, Btrfs and others answer copy_file_range in that way, in no time whatever the size; elsewhere the kernel copies.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

__all__ = ["copy_file"]

_AT_ONCE: Final = 1 << 30
_CANNOT: Final = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
"""What kernels, file systems and sandboxes say that do not know the call, or not for these two files."""


def copy_file(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`, which nobody writes meanwhile. Raises OSError, and may leave a part of it."""
    if not _copied_by_range(source, target):
        shutil.copyfile(source, target)


def _copied_by_range(source: Path, target: Path) -> bool:
    if not hasattr(os, "copy_file_range"):
        return False
    with source.open("rb") as read, target.open("wb") as written:
        left = os.fstat(read.fileno()).st_size
        try:
            while left and (done := os.copy_file_range(read.fileno(), written.fileno(), min(left, _AT_ONCE))):
                left -= done
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
    # Some file systems say that they have come to the end of a file when they have not.
    return not left
