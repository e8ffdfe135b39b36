"""Which of a model's files are its weights: decided from the names alone, the same way for every source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from crawl.formats.variants import is_variant, least_quantized
from store.errors import SkipError

__all__ = ["FORMATS", "WeightGroup", "is_weight", "weight_files"]

FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "safetensors": (".safetensors",),
    "torch": (".bin", ".pt", ".pth", ".ckpt"),
    "flax": (".msgpack",),
    "keras": (".weights.h5", ".h5", ".hdf5", ".keras"),
    "gguf": (".gguf",),
    "onnx": (".onnx",),
}
"""Suffixes of the formats that are read. Where a model comes in several the first is taken: each keeps more of names
and precision than the next."""

# Formats that hold weights and are not read: a folder with only these is reported, not passed over.
_OTHER_FORMATS: Final = frozenset(
    ("ggml", "mlmodel", "nemo", "npz", "ot", "pb", "pdparams", "pkl", "pickle", "tflite", "t7")
)
# `.bin` and the like also name what is no weight at all.
_NOT_WEIGHTS: Final = re.compile(
    r"((optimizer|scheduler|rng_state|scaler|training_args|training_state|tokenizer|vocab)([-_]\w{0,32})?"
    r"|.{0,200}optim_states)\.(bin|pt|pth)|imatrix.{0,200}\.gguf",
    re.ASCII | re.DOTALL,
)
# A `.bin` beside one of these of the same stem belongs to it: OpenVINO, ncnn.
_OWNERS: Final = (".xml", ".param")
_MAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "safetensors": ("model",),
    "torch": ("pytorch_model", "model"),
    "flax": ("flax_model",),
    "keras": ("tf_model", "model"),
    "gguf": ("model",),
    "onnx": ("model",),
}
# Of the parts of a pipeline, the one that is trained; and where old sentence-transformers keep theirs.
_MAIN_FOLDERS: Final = ("transformer", "unet", "0_Transformer")
_PIPELINE: Final = "model_index.json"
_INDEX: Final = ".index.json"
_SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<variant>\.\w{1,16})?", re.ASCII)
_MISSING_NAMED = 16
_ADAPTER = "adapter_model"


@dataclass(frozen=True, slots=True)
class WeightGroup:
    """The files that together hold one model's weights.

    `stem` tells the groups of one folder apart. With an `index` the shards are the ones it names and `files`
    is empty: a list of names cannot say what an index holds. `missing` are shards that the names of the
    others promise (the first 16 of them). `format` is one of `FORMATS`; an `adapter` holds differences from a base.
    """

    stem: str
    files: tuple[str, ...]
    index: str | None = None
    missing: tuple[str, ...] = ()
    format: str = "safetensors"
    adapter: bool = False


def is_weight(path: str) -> bool:
    """True when the name is that of a weight file, in a format that is read or not, or of an index."""
    name = _base(path)
    return _format_of(name) is not None or _index_format(name) is not None or _is_other_format(name)


def weight_files(paths: Iterable[str]) -> tuple[WeightGroup, ...]:
    """The groups of weight files among a model's `paths` (relative, with `/`), by stem; nearly always one.

    Looked at in this order, and the first that holds weights is the model; all else are variants or parts of it:

    1. Where `model_index.json` says that the model is a pipeline, the folder of its denoiser (`transformer`, `unet`).
    2. The top of the model: safetensors, else a file of another format under its library's usual name.
    3. A PEFT adapter at the top.
    4. Format by format in the order of `FORMATS`: the top, else the sub-folders, all of them unless one is the main
       one.
    5. A PEFT adapter in a sub-folder.

    Among the files of one format in one folder:

    1. The usual name (`model.safetensors`), else its index, else all of its shards `model-0000i-of-0000N.safetensors`;
       whatever lies beside it is a variant of it (`model.fp16.safetensors`, `consolidated.safetensors`).
    2. Else the only index there is, whatever its name.
    3. Else each name that is left, less variants of another name: `a.safetensors` and the shards of `b` are two
       groups. GGUF files that differ in their quantisation alone are one, the least quantised.

    Raises SkipError: "unsupported_format" when there are weights but none that can be read, "no_weights" when there
    are none at all.
    """
    folders: dict[str, list[str]] = {}
    for path in sorted(paths):
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    found = {folder: _by_format(members) for folder, members in folders.items()}
    top = found.pop("", {})
    below = {folder: groups for folder, groups in found.items() if groups}
    if _PIPELINE in folders.get("", ()) and (part := _main_folder(below)):
        below, top = {part: below[part]}, {}
    if "safetensors" in top:
        return top["safetensors"]
    for kind, groups in top.items():
        if len(groups) == 1 and groups[0].stem in _MAIN[kind]:
            return groups
    if adapter := _adapter(folders.get("", [])):
        return (adapter,)
    for kind in FORMATS:
        if kind in top:
            return top[kind]
        holding = {folder: groups[kind] for folder, groups in below.items() if kind in groups}
        if part := _main_folder(holding):
            holding = {part: holding[part]}
        if holding:
            named = [
                replace(group, stem=f"{folder}/{group.stem}") for folder, held in holding.items() for group in held
            ]
            return tuple(sorted(named, key=lambda group: group.stem))
    adapters = [adapter for members in folders.values() if (adapter := _adapter(members))]
    if adapters:
        return tuple(adapters)
    raise _nothing_to_read([path for members in folders.values() for path in members])


def _main_folder(folders: Iterable[str]) -> str | None:
    held = frozenset(folders)
    return next((folder for folder in _MAIN_FOLDERS if folder in held), None)


def _by_format(paths: list[str]) -> dict[str, tuple[WeightGroup, ...]]:
    """The groups of one folder, by format in the order of `FORMATS`; adapters left out."""
    names = {_base(path) for path in paths}
    by_format: dict[str, list[str]] = {}
    for path in paths:
        name = _base(path)
        kind = _format_of(name) or _index_format(name)
        owned = kind == "torch" and any(f"{name.removesuffix('.bin')}{owner}" in names for owner in _OWNERS)
        if kind is not None and not owned and not name.startswith(_ADAPTER):
            by_format.setdefault(kind, []).append(path)
    found = {kind: _groups(by_format[kind], kind) for kind in FORMATS if kind in by_format}
    return {kind: groups for kind, groups in found.items() if groups}


def _groups(paths: list[str], kind: str) -> tuple[WeightGroup, ...]:
    singles: dict[str, WeightGroup] = {}
    indexes: dict[str, WeightGroup] = {}
    shards: dict[tuple[str, int, str], dict[int, str]] = {}
    for path in paths:
        name = _base(path)
        if _index_format(name):
            stem = _stem(name[: -len(_INDEX)])
            indexes[stem] = WeightGroup(stem, (), index=path, format=kind)
            continue
        stem = _stem(name)
        if shard := _SHARD.fullmatch(stem):
            key = (shard["prefix"] + (shard["variant"] or ""), int(shard["total"]), name[len(stem) :])
            shards.setdefault(key, {})[int(shard["number"])] = path
        else:
            # `model.bin` and `model.pt`: one of them.
            singles.setdefault(stem, WeightGroup(stem, (path,), format=kind))
    sharded = _sharded(shards, kind)
    for main in _MAIN[kind]:
        for held in (singles, indexes, sharded):
            if main in held:
                return (held[main],)
    if len(indexes) == 1:
        return tuple(indexes.values())
    every = {**sharded, **indexes, **singles}
    if kind == "gguf":
        return tuple(every[stem] for stem in least_quantized(every))
    return tuple(every[stem] for stem in sorted(every) if not is_variant(stem, every))


def _sharded(shards: Mapping[tuple[str, int, str], Mapping[int, str]], kind: str) -> dict[str, WeightGroup]:
    """One group a (prefix, total); the total is part of the stem only where one prefix has several totals."""
    totals = Counter(prefix for prefix, _, _ in shards)
    groups: dict[str, WeightGroup] = {}
    for (prefix, total, suffix), members in shards.items():
        stem = prefix if totals[prefix] == 1 else f"{prefix}-of-{total:05d}"
        # Some writers count from 0, most from 1.
        first = 0 if 0 in members else 1
        absent = (n for n in range(first, first + total) if n not in members)
        missing = tuple(f"{prefix}-{n:05d}-of-{total:05d}{suffix}" for n in islice(absent, _MISSING_NAMED))
        groups[stem] = WeightGroup(stem, tuple(members[n] for n in sorted(members)), missing=missing, format=kind)
    return groups


def _adapter(paths: list[str]) -> WeightGroup | None:
    """The PEFT adapter of one folder."""
    for kind, suffix in (("safetensors", ".safetensors"), ("torch", ".bin")):
        for path in paths:
            if _base(path) == _ADAPTER + suffix:
                return WeightGroup(path[: -len(suffix)], (path,), format=kind, adapter=True)
    return None


def _nothing_to_read(paths: list[str]) -> SkipError:
    others = [path for path in paths if _is_other_format(_base(path)) or _base(path).startswith(_ADAPTER)]
    suffixes = [suffix for suffixes in FORMATS.values() for suffix in suffixes]
    if others:
        return SkipError(
            "unsupported_format",
            f"weights only in formats that are not read: {_few(others)}; expected one of {', '.join(suffixes)}",
        )
    return SkipError("no_weights", f"no weights: expected a {suffixes[0]} file, found {_few(paths) or 'no files'}")


def _few(paths: list[str]) -> str:
    shown = ", ".join(paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"


def _format_of(name: str) -> str | None:
    lower = name.lower()
    for kind, suffixes in FORMATS.items():
        if lower.endswith(suffixes) and _stem(name):
            return None if _NOT_WEIGHTS.fullmatch(lower) else kind
    return None


def _index_format(name: str) -> str | None:
    return _format_of(name[: -len(_INDEX)]) if name.endswith(_INDEX) else None


def _stem(name: str) -> str:
    lower = name.lower()
    for suffix in (suffix for suffixes in FORMATS.values() for suffix in suffixes):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _is_other_format(name: str) -> bool:
    stem, dot, suffix = name.rpartition(".")
    return bool(dot and stem) and suffix.lower() in _OTHER_FORMATS


def _base(path: str) -> str:
    return path.rpartition("/")[2]
