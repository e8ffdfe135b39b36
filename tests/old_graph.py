"""Graphs as earlier schemas left them, and the models that they were made of (tests/data)."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from crawl.folder import FolderSource
from tests.runs import Placed

__all__ = ["NAMES", "OldModels", "nearly", "unpack"]

NAMES = {"a/base", "a/child", "a/grand", "a/other", "a/merge", "lone"}


class OldModels(FolderSource):
    """Models under the name of the source that the graph was made from, wherever they lie now."""

    @property
    def label(self) -> str:
        return "folder:/models"


def unpack(place: Path, schema: int = 1) -> tuple[Path, OldModels]:
    """The graph as a schema left it, and the source that it was last indexed from, unpacked into `place`."""
    for version in (1, schema):
        shutil.rmtree(place / "graph", ignore_errors=True)
        with tarfile.open(Path(__file__).parent / "data" / f"schema-{version}.tar.xz") as archive:
            # Python 3.11.0 to 3.11.3 know no filters, and later ones warn without; the archives are our own.
            if hasattr(tarfile, "data_filter"):
                archive.extractall(place, filter="data")
            else:
                archive.extractall(place)
    return place / "graph", OldModels(place / "models")


def nearly(found: Any) -> Any:
    """Equal to what was found but for the last bits of numbers. The archives' sketches and pairs were made on one
    machine: processors sum in other orders than one another."""
    if isinstance(found, float):
        return pytest.approx(found, rel=1e-9, abs=1e-15)
    if isinstance(found, dict):
        return {name: nearly(each) for name, each in found.items()}
    if isinstance(found, Placed):
        return Placed(*map(nearly, found))
    return type(found)(map(nearly, found)) if isinstance(found, list | tuple) else found
