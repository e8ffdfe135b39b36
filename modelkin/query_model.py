"""The model that `identify` is asked about: a folder, a weight file, or a state dict, sketched and not stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from crawl.source import ModelRef, Source
from modelkin.plain import plain
from store.errors import SkipError, StopError
from store.records import Model

__all__ = ["sketch_weights"]

_CACHED = re.compile(r"models--\w[\w.-]*?(--\w[\w.-]*)?", re.ASCII)
_SHOWN = 8


def sketch_weights(weights: Path | str | Mapping[str, Any]) -> Model:
    """The model in `weights`, read whole. Raises StopError when there is no model in it, or several."""
    if isinstance(weights, Mapping):
        return _sketch_state_dict(weights)
    path = Path(weights).expanduser().absolute()
    if not path.exists():
        raise StopError(f"expected a folder or a weight file at {plain(str(path))}, found nothing")
    source, model = _locate(path)
    return _sketch(source, model)


def _sketch(source: Source, model: ModelRef) -> Model:
    from crawl.ingest import sketch_model

    try:
        return sketch_model(source, model, budget=0).model
    except SkipError as error:
        raise StopError(f"{plain(model.name)} cannot be read: {error}") from error


def _locate(path: Path) -> tuple[Source, ModelRef]:
    from crawl.folder import FolderSource
    from crawl.hfcache import CacheSource, is_cache

    for part in (path, *path.parents):
        if _CACHED.fullmatch(part.name) and is_cache(part.parent):
            # Its files are links that lead out of the snapshot, which only the cache as a whole may follow.
            return CacheSource(part.parent), _cached(CacheSource(part.parent), part, path)
    if path.is_file():
        model = _of_file(FolderSource(path.parent), path)
        _check_is_read(FolderSource(path.parent), model, path)
        return FolderSource(path.parent), model
    if is_cache(path):
        return CacheSource(path), _only(CacheSource(path), path)
    source = FolderSource(path)
    # The folder's own weights come before those of folders below it.
    own = ModelRef(path.name, "")
    return source, own if _has(source, own) else _only(source, path)


def _cached(source: Source, folder: Path, path: Path) -> ModelRef:
    name = folder.name.removeprefix("models--").replace("--", "/")
    below = path.relative_to(folder).parts
    if len(below) >= 2 and below[0] == "snapshots":
        return ModelRef(name, below[1])
    for model in source.models():
        if isinstance(model, ModelRef) and model.name == name:
            return model
    raise StopError(f"{plain(str(folder))}: expected a downloaded model, found no complete snapshot of one")


def _of_file(source: Source, path: Path) -> ModelRef:
    """The model that the file belongs to: alone, as one of several in its folder, or as a shard of one."""
    folder = path.parent.name
    for model in (ModelRef(f"{folder}/{path.stem}", ""), ModelRef(folder, "")):
        if _has(source, model, path.name):
            return model
    for listed in source.models():
        if isinstance(listed, ModelRef) and _has(source, listed, path.name):
            return listed
    raise StopError(f"{plain(str(path))}: expected a file of weights, found none that can be read")


def _check_is_read(source: Source, model: ModelRef, path: Path) -> None:
    """Raise StopError when the folder's model is read from another file, as of several formats or quantisations."""
    from crawl.layout import weight_files

    groups = weight_files(file.path for file in source.files(model))
    if any(group.index for group in groups) or any(path.name in group.files for group in groups):
        return
    read = plain(groups[0].files[0])
    raise StopError(
        f"{plain(str(path))}: the model of its folder is read from {read}, which stands for it: put the file into a "
        "folder of its own to ask about it alone"
    )


def _only(source: Source, path: Path) -> ModelRef:
    listed = list(source.models())
    models = [model for model in listed if isinstance(model, ModelRef)]
    if len(models) == 1:
        return models[0]
    shown = plain(str(path))
    if models:
        names = [plain(model.name) for model in models[:_SHOWN]]
        more = ", ..." if len(models) > _SHOWN else ""
        raise StopError(f"{shown} holds {len(models)} models ({', '.join(names)}{more}): name one of them")
    reasons = [each.message for each in listed if not isinstance(each, ModelRef)]
    raise StopError(f"no model in {shown}" + (f": {plain(reasons[0])}" if reasons else ""))


def _has(source: Source, model: ModelRef, file: str | None = None) -> bool:
    try:
        files = source.files(model)
    except SkipError:
        return False
    return file is None or any(each.path == file for each in files)


def _sketch_state_dict(weights: Mapping[str, Any]) -> Model:
    """Through a file of its own, so that there is one reader of weights and one way to sketch them."""
    from crawl.folder import FolderSource

    tensors = {str(name): value for name, value in weights.items() if hasattr(value, "shape")}
    if not tensors:
        raise StopError(f"expected a state dict of names to tensors, found {_kinds(list(weights.values()))}")
    with TemporaryDirectory(prefix="modelkin-") as parent:
        folder = Path(parent).resolve() / "state_dict"
        folder.mkdir()
        _save(tensors, folder / "model.safetensors")
        return _sketch(FolderSource(folder), ModelRef("state_dict", ""))


def _save(tensors: Mapping[str, Any], path: Path) -> None:
    if any(type(value).__module__.partition(".")[0] == "torch" for value in tensors.values()):
        import torch
        from safetensors.torch import save_file as save_torch

        # Cloned, since tied weights share memory and safetensors refuses that.
        save_torch(
            {name: torch.as_tensor(value).detach().cpu().contiguous().clone() for name, value in tensors.items()},
            path,
        )
        return
    import numpy as np
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def _kinds(values: Sequence[Any]) -> str:
    kinds = sorted({type(value).__name__ for value in values})
    return ", ".join(kinds[:_SHOWN]) if kinds else "an empty one"
