"""A folder as a source of models: each folder that directly holds weights is a model, named by its path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl.folder_entries import Entries, LocalFile, newest_weight, read_entries
from crawl.layout import WeightGroup, is_weight, weight_files
from crawl.local_file import LocalReader, open_below, read_text_below, resolve_below
from crawl.names import MAX_NAME, escaped, is_plain_path
from crawl.source import FileRef, ModelRef, SkippedModel
from store.errors import SkipError, StopError
from store.generation import is_graph

__all__ = ["FolderSource"]


@dataclass(frozen=True, slots=True)
class _Found:
    """A model: its name, the path of its folder below the source ("" for the source), and its files."""

    name: str
    folder: str
    files: tuple[LocalFile, ...]


class FolderSource:
    """Models below the folder `path`.

    A model is named by the path of its folder below the source, with `/`; the source folder itself, if it
    holds weights, by its own name. Where several unrelated .safetensors lie in one folder (see
    `weight_files`), each is a model of its own, `<folder>/<stem>`. Sub-folders are models of their own, never
    part of the one above.

    Names that begin with a dot are not looked at: `.git`, `.cache` and files that rsync or an editor has not
    finished. Links to files are followed when they stay below the source; links to folders never need to be,
    since the folder they lead to is listed where it is.
    """

    def __init__(self, path: Path | str) -> None:
        self._root = os.path.realpath(path)
        self._folders: dict[str, str] = {}

    @property
    def label(self) -> str:
        return f"folder:{escaped(self._root)}"

    @property
    def remote(self) -> bool:
        return False

    @property
    def requests(self) -> int:
        return 0

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        """List the models, sorted by name, and what is below the source that is none.

        Raises StopError when the source is not a folder that can be read.
        """
        found: list[ModelRef | SkippedModel] = []
        taken: set[str] = set()
        # Deepest name first among equals: a sub-folder keeps its name, the source folder yields (see
        # `_locate`).
        for item in sorted(self._walk(), key=_by_name_then_depth):
            if isinstance(item, SkippedModel):
                found.append(item)
            elif item.name in taken:
                where = item.folder or "."
                message = f"{where} and a sub-folder would both be called {item.name}: rename one of them"
                found.append(SkippedModel(item.name, "name_taken", message, path=where))
            else:
                taken.add(item.name)
                self._folders[item.name] = item.folder
                found.append(_reference(item))
        yield from found

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        """The model's files, sorted by path. Raises SkipError("vanished", ...) when the model is gone."""
        return [FileRef(file.name, file.size) for file in self._locate(model.name).files]

    def open(self, model: ModelRef, file: FileRef) -> LocalReader:
        """Open one file. Raises what `open_below` raises."""
        folder = self._folder_of(model.name, file.path)
        return open_below(self._root, self._absolute(folder, file.path), f"{model.name}/{file.path}", file.size)

    def read_text(self, model: ModelRef, path: str, limit: int) -> str | None:
        """At most `limit` bytes of a text file of the model; None when there is none."""
        try:
            folder = self._folder_of(model.name, path)
        except SkipError as error:
            if error.reason == "vanished":
                return None
            raise
        return read_text_below(self._root, self._absolute(folder, path), f"{model.name}/{path}", limit)

    def _absolute(self, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), *(part for part in parts if part)]) or "/"

    def _walk(self) -> Iterator[_Found | SkippedModel]:
        if not Path(self._root).is_dir():
            raise StopError(f"expected a folder of models at {escaped(self._root)}, found none: check the path")
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                entries = read_entries(self._root, folder)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                if not folder:
                    raise StopError(f"the folder {escaped(self._root)} cannot be read: {reason}") from error
                yield SkippedModel(folder, "unreadable", f"the folder {folder} cannot be read: {reason}", path=folder)
                continue
            if folder and is_graph(file.name for file in entries.files):
                # `modelkin index .` leaves its graph among the models.
                continue
            waiting += [f"{folder}/{name}" if folder else name for name in entries.folders]
            yield from self._models_of(folder, entries)

    def _models_of(self, folder: str, entries: Entries) -> Iterator[_Found | SkippedModel]:
        name = self._name(folder)
        if not is_plain_path(name):
            message = f"{escaped(name)}: expected a path of at most {MAX_NAME} characters below the source; shorten it"
            yield SkippedModel(escaped(name), "bad_name", message, path=escaped(folder))
            return
        for skipped in entries.skipped:
            yield SkippedModel(name, skipped.reason, str(skipped), path=skipped.path)
        try:
            groups = weight_files(file.name for file in entries.files)
        except SkipError as error:
            # A folder that only holds other folders is no failed model, and what was told above is not told
            # twice.
            if error.reason != "no_weights" or not (entries.folders or entries.skipped):
                yield SkippedModel(name, error.reason, f"{name}: {error}", path=folder or ".")
            return
        if len(groups) == 1:
            yield _Found(name, folder, entries.files)
            return
        # Each has its own weights and what is no weight: README, config and the like.
        shared = tuple(file for file in entries.files if not is_weight(file.name))
        by_name = {file.name: file for file in entries.files}
        for group, stem in _stems(groups, entries):
            own = [by_name[path] for path in (*group.files, group.index) if path is not None]
            files = tuple(sorted((*own, *shared), key=lambda file: file.name))
            yield _Found(f"{name}/{stem}", folder, files)

    def _name(self, folder: str) -> str:
        return folder or escaped(Path(self._root).name or "root")

    def _locate(self, name: str) -> _Found:
        """The model called `name` as it is on disk now. Raises SkipError("vanished", ...).

        Decided from the name alone and not from what `models` saw: a worker in another process asks too.
        """
        if is_plain_path(name):
            parent, _, _ = name.rpartition("/")
            own = self._name("")
            folders = [name, *([""] if name == own else []), *([parent] if parent else [])]
            folders += [""] if parent == own else []
            for folder in folders:
                for found in self._found_in(folder):
                    if found.name == name:
                        self._folders[name] = folder
                        return found
        raise SkipError("vanished", f"{escaped(name)} is gone: expected its weights below {escaped(self._root)}")

    def _found_in(self, folder: str) -> list[_Found]:
        real = resolve_below(self._root, self._absolute(folder))
        if real != self._absolute(folder):
            # It leads over a link to a folder, which the listing never does.
            return []
        try:
            entries = read_entries(self._root, folder)
        except OSError:
            return []
        return [item for item in self._models_of(folder, entries) if isinstance(item, _Found)]

    def _folder_of(self, name: str, path: str) -> str:
        if not is_plain_path(path) or "/" in path:
            raise SkipError("bad_name", f"{escaped(name)}: expected a file of the model, found {escaped(path)!r}")
        # Remembered, as finding it reads the folder: thousands of models may lie in one.
        return self._folders[name] if name in self._folders else self._locate(name).folder


def _stems(groups: tuple[WeightGroup, ...], entries: Entries) -> Iterator[tuple[WeightGroup, str]]:
    """Each group and its name, which is the stem unless a sub-folder has that name already."""
    folders = frozenset(entries.folders)
    for group in groups:
        clash = group.stem in folders
        yield group, (group.index or group.files[0]) if clash else group.stem


def _reference(found: _Found) -> ModelRef:
    digest = hashlib.sha256()
    for file in found.files:
        digest.update(f"{file.name}\0{file.size}\0{file.mtime_ns}\0".encode())
    return ModelRef(found.name, digest.hexdigest()[:16], modified_at=newest_weight(found.files))


def _by_name_then_depth(item: _Found | SkippedModel) -> tuple[str, int, str, str]:
    if isinstance(item, SkippedModel):
        return (item.name, 1, item.reason, item.path or "")
    return (item.name, 0, "", "" if item.folder else "source")
