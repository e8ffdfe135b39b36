"""The cache of huggingface_hub as a source of models: what `hf download` and `from_pretrained` left on disk.

hub/models--org--name/refs/main           the commit that `main` was last seen at
hub/models--org--name/snapshots/<commit>  links into blobs/, by file name
hub/models--org--name/blobs/<etag>        the bytes
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from crawl.folder_entries import LocalFile, RefusedEntryError, newest_weight, read_entries
from crawl.layout import is_weight, weight_files
from crawl.local_file import LocalReader, open_below, read_text_below
from crawl.names import escaped, is_plain_path, is_repo_name
from crawl.source import FileRef, ModelRef, SkippedModel
from store.errors import SkipError, StopError

__all__ = ["CacheSource", "is_cache"]

_PREFIX = "models--"
_REVISION = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


def is_cache(path: Path | str) -> bool:
    """True when the folder directly holds a model in the layout of huggingface_hub's cache."""
    try:
        with os.scandir(path) as scan:
            return any(entry.name.startswith(_PREFIX) and (Path(entry.path) / "snapshots").is_dir() for entry in scan)
    except OSError:
        return False


class CacheSource:
    """Models in the cache folder `path` (usually `~/.cache/huggingface/hub`), one revision of each.

    The revision is the one that `refs/main` names if it is there, else the newest snapshot.
    """

    def __init__(self, path: Path | str) -> None:
        self._root = os.path.realpath(path)

    @property
    def label(self) -> str:
        return f"cache:{escaped(self._root)}"

    @property
    def remote(self) -> bool:
        return False

    @property
    def requests(self) -> int:
        return 0

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        """List the models, sorted by name, and what is in the cache and unusable.

        Raises StopError when the cache cannot be read.
        """
        try:
            entries = read_entries(self._root, "")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StopError(f"the cache {escaped(self._root)} cannot be read: {reason}; check the path") from error
        for refused in entries.skipped:
            if refused.path.startswith(_PREFIX):
                yield SkippedModel(refused.path, refused.reason, str(refused), path=refused.path)
        for folder in entries.folders:
            if folder.startswith(_PREFIX):
                yield from self._model(folder)

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        """The snapshot's files, sorted by path. Raises SkipError("vanished", ...) when the model is gone."""
        files, _ = self._read_snapshot(self._snapshot(model))
        return [FileRef(file.name, file.size) for file in files]

    def open(self, model: ModelRef, file: FileRef) -> LocalReader:
        """Open one file. Raises what `open_below` raises."""
        return open_below(self._root, self._path(model, file.path), f"{model.name}/{file.path}", file.size)

    def read_text(self, model: ModelRef, path: str, limit: int) -> str | None:
        """At most `limit` bytes of a text file of the model; None when there is none."""
        return read_text_below(self._root, self._path(model, path), f"{model.name}/{path}", limit)

    def _path(self, model: ModelRef, path: str) -> str:
        if not is_plain_path(path):
            raise SkipError("bad_name", f"{model.name}: expected a file of the model, found {escaped(path)!r}")
        return f"{self._root}/{self._snapshot(model)}/{path}"

    def _snapshot(self, model: ModelRef) -> str:
        if not is_repo_name(model.name) or not _REVISION.fullmatch(model.revision):
            raise SkipError("bad_name", f"expected a model of the cache, found {escaped(model.name)!r}")
        return f"{_PREFIX}{model.name.replace('/', '--')}/snapshots/{model.revision}"

    def _model(self, folder: str) -> Iterator[ModelRef | SkippedModel]:
        name = folder.removeprefix(_PREFIX).replace("--", "/")
        if not is_repo_name(name):
            yield SkippedModel(folder, "bad_name", f"expected models--org--name, found {folder}", path=folder)
            return
        try:
            revision = self._revision(folder)
            files, refused = self._read_snapshot(f"{folder}/snapshots/{revision}")
        except SkipError as error:
            yield SkippedModel(name, error.reason, str(error), path=folder)
            return
        broken = [entry for entry in refused if entry.reason == "broken_link" and is_weight(entry.path)]
        for entry in refused:
            if entry.reason != "broken_link":
                yield SkippedModel(name, entry.reason, str(entry), revision, entry.path)
        if broken:
            path = broken[0].path
            message = f"{name}: expected all of its weights, found {path} without its bytes; download it again"
            yield SkippedModel(name, "incomplete_snapshot", message, revision, path)
            return
        try:
            weight_files(file.name for file in files)
        except SkipError as error:
            # Weights that were refused have been told.
            if error.reason != "no_weights" or not any(is_weight(entry.path) for entry in refused):
                yield SkippedModel(name, error.reason, f"{name}: {error}", revision)
            return
        yield ModelRef(name, revision, modified_at=newest_weight(files))

    def _revision(self, folder: str) -> str:
        """The revision to read. Raises SkipError("incomplete_snapshot", ...) when there is none."""
        try:
            snapshots = read_entries(self._root, f"{folder}/snapshots").folders
        except OSError:
            snapshots = ()
        snapshots = tuple(revision for revision in snapshots if _REVISION.fullmatch(revision))
        if not snapshots:
            raise SkipError("incomplete_snapshot", f"{folder}: expected a snapshot, found none; download it again")
        main = read_text_below(self._root, f"{self._root}/{folder}/refs/main", f"{folder}/refs/main", 200)
        if main is not None and main.strip() in snapshots:
            return main.strip()
        return max(snapshots, key=lambda revision: (self._changed_ns(folder, revision), revision))

    def _changed_ns(self, folder: str, revision: str) -> int:
        try:
            return Path(self._root, folder, "snapshots", revision).stat().st_mtime_ns
        except OSError:
            return 0

    def _read_snapshot(self, snapshot: str) -> tuple[list[LocalFile], list[RefusedEntryError]]:
        """The snapshot's files at any depth, sorted, and what was refused. Raises SkipError("vanished")."""
        files: list[LocalFile] = []
        refused: list[RefusedEntryError] = []
        waiting = [""]
        while waiting:
            inside = waiting.pop()
            try:
                entries = read_entries(self._root, f"{snapshot}/{inside}".rstrip("/"))
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise SkipError("vanished", f"{snapshot} cannot be read: {reason}") from error
            prefix = f"{inside}/" if inside else ""
            waiting += [prefix + folder for folder in entries.folders]
            files += [LocalFile(prefix + file.name, file.size, file.mtime_ns) for file in entries.files]
            refused += entries.skipped
        return sorted(files, key=lambda file: file.name), refused
