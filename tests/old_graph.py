"""The graph that the first schema left, and the models that it was made of (tests/data)."""

from __future__ import annotations

import tarfile
from pathlib import Path

from crawl.folder import FolderSource

__all__ = ["NAMES", "OldModels", "unpack"]

NAMES = {"a/base", "a/child", "a/grand", "a/other", "a/merge", "lone"}


class OldModels(FolderSource):
    """Models under the name of the source that the graph was made from, wherever they lie now."""

    @property
    def label(self) -> str:
        return "folder:/models"


def unpack(place: Path) -> tuple[Path, OldModels]:
    """The graph, and the source it was last indexed from, unpacked into `place`."""
    with tarfile.open(Path(__file__).parent / "data" / "schema-1.tar.xz") as archive:
        # Python 3.11.0 to 3.11.3 know no filters, and later ones warn without; the archive is our own.
        if hasattr(tarfile, "data_filter"):
            archive.extractall(place, filter="data")
        else:
            archive.extractall(place)
    return place / "graph", OldModels(place / "models")
