"""Crawl a collection once, into a graph folder that later runs read: every method starts from the same sketches."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blake3 import blake3

import crawl
from crawl.layout import is_weight
from indexer.family import Family
from indexer.reading import load_family, load_metadata
from store.errors import StopError
from store.format import SCHEMA_VERSION, SketchFormat
from store.generation import GraphFolder, open_reader
from store.lineage import LiveModel, live_models
from store.progress import SilentProgress

__all__ = ["Sketches", "sketch", "sketched"]

STAMP: Final = "accuracy.json"
PATIENCE_S: Final = 600
"""How long to wait for another run that is crawling the same collection."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """What a crawl has read of a collection: its models by architecture, and the graph that holds them."""

    graph: Path
    families: tuple[Family, ...]
    bases: Mapping[str, tuple[str, ...]]
    """Model -> the base models that its card declares."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted(name for family in self.families for name in family.names))


def sketched(collection: Path, graph: Path) -> Sketches:
    """The families of a collection, crawled if its files are not those that `graph` was made from."""
    sketch(collection, graph)
    with open_reader(graph) as connection:
        by_architecture: dict[str, list[LiveModel]] = defaultdict(list)
        for model in live_models(connection):
            by_architecture[model.architecture].append(model)
        families = tuple(load_family(connection, graph, key, members) for key, members in by_architecture.items())
        bases = {
            member.name: declared
            for key, members in by_architecture.items()
            for member, declared in zip(members, load_metadata(connection, key, members).bases, strict=True)
        }
    return Sketches(graph, families, bases)


def sketch(collection: Path, graph: Path) -> None:
    """Bring `graph` up to date with the files of the collection; nothing is done when it is."""
    state = _state(collection)
    stamp = graph / STAMP
    waited = time.monotonic() + PATIENCE_S
    while not _matches(stamp, state):
        try:
            _crawl(collection, graph)
        except StopError:
            if not _busy(graph) or time.monotonic() > waited:
                raise
            time.sleep(1.0)
        else:
            scratch = stamp.with_suffix(".new")
            scratch.write_text(json.dumps(state))
            scratch.replace(stamp)


def _state(collection: Path) -> dict[str, object]:
    """What the sketches depend on: the format, the code that makes them, and size and date of every weight file."""
    files = sorted(path for path in collection.rglob("*") if path.name != "truth.csv" and is_weight(path.name))
    if not files:
        raise StopError(f"{collection} holds no models")
    listing: Sequence[list[object]] = [
        [path.relative_to(collection).as_posix(), (found := path.stat()).st_size, found.st_mtime_ns] for path in files
    ]
    return {**_made_by(), "files": listing}


def _made_by() -> dict[str, object]:
    code = blake3()
    for path in sorted(Path(crawl.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {"schema": SCHEMA_VERSION, "format": asdict(SketchFormat()), "code": code.hexdigest(length=8)}


def _matches(stamp: Path, state: dict[str, object]) -> bool:
    return stamp.exists() and json.loads(stamp.read_text()) == state


def _busy(graph: Path) -> bool:
    """Whether another process writes to the graph."""
    try:
        with GraphFolder(graph).lock():
            return False
    except StopError:
        return True


def _crawl(collection: Path, graph: Path) -> None:
    from crawl.folder import FolderSource
    from modelkin.nightly import run

    stamp = graph / STAMP
    if stamp.exists():
        written = json.loads(stamp.read_text())
        if {**written, **_made_by()} != written:
            shutil.rmtree(graph)  # sketches by other code: the folder is ours, as the stamp says
    print(f"sketching {collection}", file=sys.stderr, flush=True)
    run(
        graph,
        FolderSource(collection),
        command="accuracy",
        mode=None,
        budget=0,
        complete=True,
        progress=SilentProgress(),
        clock=lambda: datetime.now(UTC),
    )
