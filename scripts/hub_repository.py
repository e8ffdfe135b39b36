"""A folder `org/name/files` read as a Hub's repositories: files with hashes, revision, card and tags."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

__all__ = ["HubFile", "Repositories", "Repository"]

NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")  # of an organisation or a repository: never `..`, never hidden
LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".ckpt", ".zip"})
LFS_SIZE = 10 << 20
FRONT_MATTER = re.compile(r"---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class HubFile:
    """One file: `path` is relative to the repository with `/`, `location` is where it lies on disk."""

    path: str
    location: Path
    size: int
    mtime_ns: int

    @property
    def is_lfs(self) -> bool:
        return self.size >= LFS_SIZE or Path(self.path).suffix in LFS_SUFFIXES

    @cached_property
    def hashes(self) -> tuple[str, str]:
        """(git blob sha1, sha256), of one pass over the file."""
        blob = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        content = hashlib.sha256()
        with self.location.open("rb") as file:
            while piece := file.read(1 << 20):
                blob.update(piece)
                content.update(piece)
        return blob.hexdigest(), content.hexdigest()

    @property
    def etag(self) -> str:
        """What the Hub gives: the sha256 of a large file, the git blob of a small one."""
        return self.hashes[1] if self.is_lfs else self.hashes[0]

    @property
    def lfs(self) -> dict[str, Any] | None:
        if not self.is_lfs:
            return None
        return {"oid": self.hashes[1], "sha256": self.hashes[1], "size": self.size, "pointerSize": 134}


@dataclass(frozen=True)
class Repository:
    """One model at its only revision. Hashes, card and headers are read when first asked for."""

    name: str
    files: tuple[HubFile, ...]

    @property
    def author(self) -> str:
        return self.name.split("/")[0]

    @cached_property
    def by_path(self) -> dict[str, HubFile]:
        return {file.path: file for file in self.files}

    @cached_property
    def sha(self) -> str:
        """40 hex digits of the files' names, sizes and contents: touching a file does not change it."""
        listing = "".join(f"{file.path}\0{file.size}\0{file.hashes[0]}\n" for file in self.files)
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()

    @property
    def created_at(self) -> datetime:
        return as_time(min((file.mtime_ns for file in self.files), default=0))

    @property
    def last_modified(self) -> datetime:
        return as_time(max((file.mtime_ns for file in self.files), default=0))

    @cached_property
    def card(self) -> dict[str, Any]:
        """The YAML front matter of README.md; empty when there is none or it cannot be read."""
        readme = self.by_path.get("README.md")
        if readme is None:
            return {}
        match = FRONT_MATTER.match(readme.location.read_text(encoding="utf-8", errors="replace"))
        try:
            # Values as the Hub's JSON has them: dates and the like become text.
            header = json.loads(json.dumps(yaml.safe_load(match[1]), default=str)) if match else None
        except yaml.YAMLError:
            return {}
        return header if isinstance(header, dict) else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_object(self.by_path.get("config.json"))

    @property
    def base_models(self) -> list[str]:
        return as_list(self.card.get("base_model"))

    @property
    def relation(self) -> str:
        return str(self.card.get("base_model_relation", "finetune"))

    @cached_property
    def tags(self) -> list[str]:
        """The card's tags and those that the Hub adds itself."""
        tags = as_list(self.card.get("library_name")) + as_list(self.card.get("tags"))
        if any(file.path.endswith(".safetensors") for file in self.files):
            tags.append("safetensors")
        for base in self.base_models:
            tags += [f"base_model:{base}", f"base_model:{self.relation}:{base}"]
        tags += [f"license:{name}" for name in as_list(self.card.get("license"))]
        return list(dict.fromkeys([*tags, "region:us"]))

    @cached_property
    def safetensors(self) -> dict[str, Any] | None:
        """Parameters by dtype and in all, from the headers; None without readable safetensors files."""
        counts: Counter[str] = Counter()
        for file in self.files:
            if file.path.endswith(".safetensors"):
                counts.update(count_parameters(file.location))
        return {"parameters": dict(counts), "total": counts.total()} if counts else None


class Repositories:
    """All repositories below `root`, looked at anew on every call, so that models may arrive and change.

    Links are followed: who lays out the folder decides what is served, never who asks.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._seen: dict[str, Repository] = {}

    def names(self) -> list[str]:
        return sorted(f"{org}/{name}" for org in folders(self.root) for name in folders(self.root / org))

    def get(self, name: str) -> Repository | None:
        """The repository, or None. Only names that match NAME exist, so no name leads out of the root."""
        parts = name.split("/")
        if len(parts) != 2 or not all(NAME.fullmatch(part) for part in parts):
            return None
        folder = self.root / name
        if not folder.is_dir():
            return None
        fresh = Repository(name, tuple(sorted(self.files(folder), key=lambda file: file.path)))
        seen = self._seen.get(name)
        if seen is not None and seen == fresh:  # equal names, sizes and times: keep what was read of it
            return seen
        if seen is not None:  # one new file must not cost the hashes of all the others
            known = {file: file for file in seen.files}
            fresh = Repository(name, tuple(known.get(file, file) for file in fresh.files))
        self._seen[name] = fresh
        return fresh

    def files(self, folder: Path) -> Iterator[HubFile]:
        for top, inner, names in os.walk(folder):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for name in names:
                path = Path(top) / name
                if path.is_file():
                    stat = path.stat()
                    yield HubFile(path.relative_to(folder).as_posix(), path, stat.st_size, stat.st_mtime_ns)

    def bytes_on_disk(self) -> int:
        found = map(self.get, self.names())
        return sum(file.size for repository in found if repository for file in repository.files)


def folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir() and NAME.fullmatch(entry.name)]


def as_time(mtime_ns: int) -> datetime:
    return datetime.fromtimestamp(mtime_ns // 1_000_000 / 1000, UTC)


def as_list(value: object) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def read_object(file: HubFile | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        value = json.loads(file.location.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def count_parameters(path: Path) -> Counter[str]:
    """Elements by dtype, from a safetensors header; empty when the file has none that can be read."""
    counts: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length <= path.stat().st_size:
                header = json.loads(file.read(length))
                for name, entry in header.items():
                    if name != "__metadata__":
                        size = 1
                        for extent in entry["shape"]:
                            size *= extent
                        counts[entry["dtype"]] += size
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return Counter()
    return counts
