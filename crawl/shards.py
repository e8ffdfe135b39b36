"""The tensors of one model, over one file or many: which files hold its weights, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from crawl.formats.adapter import updates
from crawl.formats.entry import OnSkip, OpenFile, TensorEntry
from crawl.formats.packed import is_packed, unpacked
from crawl.formats.reading import read_entries
from crawl.layout import WeightGroup, weight_files
from crawl.names import escaped, is_plain_path
from crawl.safetensors_file import MAX_VALUES
from crawl.source import FileRef, ModelRef, Source
from store.errors import SkipError

__all__ = ["ModelWeights", "model_tensors", "model_weights", "read_index", "shard_files"]

MAX_CONFIG = 2**20

MAX_INDEX = 64 * 2**20
"""Bytes. The index of a model of 100,000 tensors takes about 10 MB."""


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A model's tensors, each with the file it lies in, and the format of these files; of an adapter, its updates."""

    format: str
    adapter: bool
    tensors: list[tuple[FileRef, TensorEntry]]


def model_tensors(
    source: Source,
    model: ModelRef,
    files: Sequence[FileRef] | None = None,
    on_skip: OnSkip | None = None,
    open_file: OpenFile | None = None,
) -> list[tuple[FileRef, TensorEntry]]:
    """The tensors of `model_weights`."""
    return model_weights(source, model, files, on_skip, open_file).tensors


def model_weights(
    source: Source,
    model: ModelRef,
    files: Sequence[FileRef] | None = None,
    on_skip: OnSkip | None = None,
    open_file: OpenFile | None = None,
) -> ModelWeights:
    """Every tensor of a model and the file it lies in, in the order of files and then of bytes.

    Reads headers and the index, no weights. `files` saves asking the source for them again,
    `open_file` opens them in another way than `source.open`.

    Raises SkipError: what `weight_files`, `read_index` and `read_entries` raise; "several_models" when the
    files are those of more than one model; "missing_shard"; "duplicate_tensor" when two shards hold a tensor
    and the index does not choose; "bad_index" when a shard lacks a tensor that the index puts there; and what
    the source raises.
    """
    files = source.files(model) if files is None else files
    by_path = {file.path: file for file in files}
    group = _only_group(weight_files(by_path))
    placed = _read_model_index(source, model, by_path, group)
    opener = open_file or partial(source.open, model)
    found: dict[str, tuple[FileRef, TensorEntry]] = {}
    left_out: set[str] = set()

    def note(path: str, tensor: str, why: SkipError) -> None:
        left_out.add(tensor)
        if on_skip is not None:
            on_skip(path, tensor, why)

    for path in shard_files(group, placed, by_path):
        file = by_path[path]
        for entry in read_entries(group.format, opener, file, note, by_path):
            if placed.get(entry.name, path) != path:
                continue
            if entry.name in found:
                raise SkipError(
                    "duplicate_tensor",
                    f"tensor {entry.name}: expected it in one shard, found it in {path} and "
                    f"{found[entry.name][0].path}",
                )
            found[entry.name] = (entry.file or file, entry)
    for tensor, path in placed.items():
        if tensor not in found and escaped(tensor) not in left_out:
            raise SkipError(
                "bad_index", f"{group.index}: expected tensor {escaped(tensor)} in {path}, found none there"
            )
    if group.format == "safetensors" and is_packed(found):
        found = unpacked(found, source.read_text(model, _beside(group, "config.json"), MAX_CONFIG), opener, note)
    if group.adapter:
        found = updates(found, source.read_text(model, _beside(group, "adapter_config.json"), MAX_CONFIG), note)
    return ModelWeights(group.format, group.adapter, list(found.values()))


def read_index(text: str, path: str = "model.safetensors.index.json") -> dict[str, str]:
    """The shard that each tensor lies in, from the text of a `*.safetensors.index.json`; messages say `path`.

    Raises SkipError: "bad_index" when it is not a JSON object with a non-empty `weight_map` of names to
    names, "bad_name" when a shard's name leads out of the model (absolute, `..`) or cannot be shown.
    """
    values = text.count(",") + text.count("[") + text.count("{")
    if values > MAX_VALUES:
        raise SkipError("bad_index", f"{path}: expected at most {MAX_VALUES} values in an index, found about {values}")
    try:
        index: Any = json.loads(text)
    except RecursionError as error:
        raise SkipError("bad_index", f"{path}: expected JSON of two levels, found it nested too deep") from error
    except ValueError as error:
        raise SkipError("bad_index", f"{path}: expected valid JSON, found {escaped(str(error))}") from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SkipError("bad_index", f"{path}: expected a non-empty object `weight_map`, found none")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise SkipError("bad_index", f"{path}: expected the name of a file for tensor {escaped(tensor)}")
    for shard in sorted(set(weight_map.values())):
        if not is_plain_path(shard):
            raise SkipError(
                "bad_name", f"{path}: expected shards that are files of the model, found {escaped(shard)!r}"
            )
    return weight_map


def shard_files(group: WeightGroup, placed: dict[str, str], present: Iterable[str]) -> list[str]:
    """The weight files of `group`, sorted: those of the index (`placed`) when there is one.

    Raises SkipError("missing_shard", ...) naming the ones that are not among `present`.
    """
    have = set(present)
    wanted = sorted(set(placed.values())) if group.index else sorted(group.files)
    missing = [path for path in wanted if path not in have] or list(group.missing)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SkipError(
            "missing_shard",
            f"expected the shard {', '.join(missing[:3])}{more}, found {len(have & set(wanted))} others only",
        )
    return wanted


def _only_group(groups: tuple[WeightGroup, ...]) -> WeightGroup:
    if len(groups) > 1:
        stems = ", ".join(group.stem for group in groups[:5])
        raise SkipError("several_models", f"expected the weights of one model, found {len(groups)}: {stems}")
    return groups[0]


def _beside(group: WeightGroup, name: str) -> str:
    """The path of a file in the folder of the weights."""
    folder = (group.index or group.files[0]).rpartition("/")[0]
    return f"{folder}/{name}" if folder else name


def _read_model_index(source: Source, model: ModelRef, files: dict[str, FileRef], group: WeightGroup) -> dict[str, str]:
    """Tensor to file, relative to the model; empty when there is no index."""
    if group.index is None:
        return {}
    size = files[group.index].size
    if size > MAX_INDEX:
        raise SkipError("bad_index", f"{group.index}: expected at most {MAX_INDEX} bytes, found {size}")
    text = source.read_text(model, group.index, MAX_INDEX)
    if text is None:
        raise SkipError("vanished", f"{group.index} is gone: it was there when the files were listed")
    folder = group.index.rpartition("/")[0]
    placed = read_index(text, group.index)
    return {tensor: f"{folder}/{shard}" for tensor, shard in placed.items()} if folder else placed
