"""The collections that accuracy is measured on: where they lie, and how those that are not there are made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts import published
from store.errors import StopError

__all__ = ["DEFAULT_SETS", "VTHR_SPLITS", "Collection", "collections", "default_data"]

DEFAULT_SETS: Final = ("vthr", "trained", "published")
VTHR_SPLITS: Final = (
    "ft", "lora-v", "lora-f", "bf16", "decay", "checkpoints", "derived", "merges", "partial", "missing", "seeds",
    "minilm-ft", "minilm-lora",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder of models with truth.csv, and the graph folder that keeps its sketches."""

    set: str
    split: str
    folder: Path
    graph: Path


def default_data() -> Path:
    """The folder that modelkin's benchmarks and demo keep their data in."""
    return published.default_cache().parent


def collections(names: Sequence[str], seed: int, data: Path) -> Iterator[Collection]:
    """The collections that `names` mean, one after the other, each made when it is reached and not there.

    A name is a set (`vthr`, `trained`, `published`), one split of it (`vthr/ft`), or a path to a folder with truth.csv
    or of such folders. Raises StopError for anything else.
    """
    for name in names:
        kind, _, split = name.partition("/")
        if kind == "vthr":
            yield from _made("vthr", seed, data, [split] if split else [], VTHR_SPLITS)
        elif kind == "trained":
            yield from _made("trained", seed, data, [split] if split else [], _trained_splits())
        elif kind == "published":
            yield from _published([split] if split else published.SETS, data)
        else:
            yield from _by_path(Path(name), data)


def _trained_splits() -> tuple[str, ...]:
    from benchmarks.trained import FAMILIES

    return tuple(f"{name}-{kind}" for name in FAMILIES for kind in ("trees", "run", "fan"))


def _made(kind: str, seed: int, data: Path, chosen: Sequence[str], known: Sequence[str]) -> Iterator[Collection]:
    folder = data / kind / f"seed-{seed}"
    there = sorted(path.parent.name for path in folder.glob("*/truth.csv"))
    wanted = list(chosen or known)
    if unknown := sorted(set(wanted) - {*known, *there}):
        raise StopError(f"{kind} has no split {', '.join(unknown)}: choose from {', '.join(known)}")
    if absent := [split for split in wanted if split not in there]:
        _make(kind, seed, folder, absent)
    for split in wanted:
        yield Collection(kind, split, folder / split, data / "graphs" / f"{kind}-{split}-seed-{seed}")


def _make(kind: str, seed: int, folder: Path, splits: Sequence[str]) -> None:
    """Train what is absent, in a process of its own: torch and its threads go when it is done."""
    if kind == "vthr":
        names, takes = ["--sets", *splits], "under an hour"
    else:
        families = dict.fromkeys(split.rpartition("-")[0] for split in splits)
        names, takes = ["--families", *families], "half an hour"
    command = [sys.executable, "-m", f"benchmarks.{kind}", "--seed", str(seed), "--to", str(folder), *names]
    print(f"making {kind} ({', '.join(splits)}) in {folder}; takes {takes}", file=sys.stderr, flush=True)
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise StopError(f"{kind} could not be made: {' '.join(command)} failed")


def _published(names: Sequence[str], data: Path) -> Iterator[Collection]:
    for name in names:
        layout = published.unpack([name], data / "published", data / "unpacked" / name)
        yield Collection("published", name, layout.root, data / "graphs" / f"published-{name}")


def _by_path(path: Path, data: Path) -> Iterator[Collection]:
    folder = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (the name that was given, not what it links to)
    inside = [folder] if (folder / "truth.csv").exists() else sorted(p.parent for p in folder.glob("*/truth.csv"))
    if not inside:
        raise StopError(
            f"{path} is no set: expected vthr, trained, published, a split such as vthr/ft, or a path to a folder "
            "with truth.csv"
        )
    for each in inside:
        place = hashlib.sha256(os.fsencode(each)).hexdigest()[:8]
        yield Collection(each.parent.name, each.name, each, data / "graphs" / f"{each.name}-{place}")
