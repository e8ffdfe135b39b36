"""The checksum of a shard stands in its name: written with the rows that refer to it, or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from blake3 import blake3

__all__ = ["file_checksum", "told_checksum", "with_checksum"]

_BYTES: Final = 16
_TOLD: Final = re.compile(rf"-([0-9a-f]{{{2 * _BYTES}}})\.parquet")


def file_checksum(path: Path) -> str:
    """32 hex digits: the first 16 bytes of BLAKE3 of the file. Raises OSError when it cannot be read."""
    digest = blake3()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest(_BYTES)


def with_checksum(path: Path, checksum: str) -> Path:
    """The name of a shard with this checksum."""
    return path.with_name(f"{path.stem}-{checksum}{path.suffix}")


def told_checksum(name: str) -> str | None:
    """The checksum in a shard's name; None for shards of a modelkin that wrote none."""
    found = _TOLD.search(name)
    return found.group(1) if found else None
