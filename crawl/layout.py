"""Which of a model's files are its weights: decided from the names alone, the same way for every source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from store.errors import SkipError

__all__ = ["SUPPORTED", "WeightGroup", "is_weight", "weight_files"]

SUPPORTED = ".safetensors"
"""The one format that is read; messages name it."""

# Formats that hold weights and are not read: a folder with only these is reported, not passed over.
_OTHER_FORMATS = frozenset(
    (
        *("bin", "ckpt", "gguf", "ggml", "h5", "hdf5", "keras", "mlmodel", "msgpack", "nemo", "npz", "onnx"),
        *("ot", "pb", "pdparams", "pt", "pth", "pkl", "pickle", "tflite", "t7"),
    )
)
# `.bin` and the like also name what is no weight at all.
_NOT_WEIGHTS = frozenset(
    ["optimizer.bin", "optimizer.pt", "rng_state.pth", "scheduler.bin", "scheduler.pt", "training_args.bin"]
)
_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<variant>\.\w{1,16})?", re.ASCII)
_VARIANTS = frozenset(["fp64", "fp32", "fp16", "bf16", "fp8", "int8", "int4", "8bit", "4bit", "ema", "non_ema"])
_MISSING_NAMED = 16
_ADAPTER = "adapter_model"
_MAIN = "model"


@dataclass(frozen=True, slots=True)
class WeightGroup:
    """The files that together hold one model's weights.

    `stem` tells the groups of one folder apart. With an `index` the shards are the ones it names and `files`
    is empty: a list of names cannot say what an index holds. `missing` are shards that the names of the
    others promise (the first 16 of them).
    """

    stem: str
    files: tuple[str, ...]
    index: str | None = None
    missing: tuple[str, ...] = ()


def is_weight(path: str) -> bool:
    """True when the name is that of a weight file, in a format that is read or not, or of an index."""
    name = _base(path)
    return _is_safetensors(name) or name.endswith(_INDEX) or _is_other_format(name)


def weight_files(paths: Iterable[str]) -> tuple[WeightGroup, ...]:
    """The groups of weight files among a model's `paths` (relative, with `/`), by stem; nearly always one.

    The top of the model is looked at first; sub-folders, all of them, only when the top holds no safetensors.
    In one folder:

    1. `model.safetensors`, else `model.safetensors.index.json`, else all of
    `model-0000i-of-0000N.safetensors` is the
       model, and whatever lies beside it a variant of it (`model.fp16.safetensors`,
       `consolidated.safetensors`).
    2. Else the only index there is, whatever its name.
    3. Else each name that is left, less adapters and less variants of another name: `a.safetensors` and the
    shards of
       `b` are two groups.

    Raises SkipError: "unsupported_format" when there are weights but none that can be read (other formats, or
    a PEFT adapter, which holds differences and no model), "no_weights" when there are none at all.
    """
    folders: dict[str, list[str]] = {}
    for path in sorted(paths):
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    found: list[WeightGroup] = []
    for folder, members in folders.items():
        groups = _groups(members)
        if groups and not folder:
            return groups
        prefix = f"{folder}/" if folder else ""
        found += [WeightGroup(prefix + g.stem, g.files, g.index, g.missing) for g in groups]
    if found:
        return tuple(sorted(found, key=lambda group: group.stem))
    raise _nothing_to_read([path for members in folders.values() for path in members])


def _groups(paths: list[str]) -> tuple[WeightGroup, ...]:
    """The groups of one folder; empty when it holds no safetensors but adapters."""
    singles: dict[str, WeightGroup] = {}
    indexes: dict[str, WeightGroup] = {}
    shards: dict[tuple[str, int], dict[int, str]] = {}
    for path in paths:
        name = _base(path)
        if name.startswith(_ADAPTER):
            continue
        if name.endswith(_INDEX):
            stem = name[: -len(_INDEX)]
            indexes[stem] = WeightGroup(stem, (), index=path)
        elif _is_safetensors(name):
            stem = name[: -len(SUPPORTED)]
            if shard := _SHARD.fullmatch(stem):
                key = (shard["prefix"] + (shard["variant"] or ""), int(shard["total"]))
                shards.setdefault(key, {})[int(shard["number"])] = path
            else:
                singles[stem] = WeightGroup(stem, (path,))
    sharded = _sharded(shards)
    for kind in (singles, indexes, sharded):
        if _MAIN in kind:
            return (kind[_MAIN],)
    if len(indexes) == 1:
        return tuple(indexes.values())
    every = {**sharded, **indexes, **singles}
    return tuple(every[stem] for stem in sorted(every) if not _is_variant(stem, every))


def _sharded(shards: Mapping[tuple[str, int], Mapping[int, str]]) -> dict[str, WeightGroup]:
    """One group a (prefix, total); the total is part of the stem only where one prefix has several totals."""
    totals = Counter(prefix for prefix, _ in shards)
    groups: dict[str, WeightGroup] = {}
    for (prefix, total), members in shards.items():
        stem = prefix if totals[prefix] == 1 else f"{prefix}-of-{total:05d}"
        # Some writers count from 0, most from 1.
        first = 0 if 0 in members else 1
        absent = (n for n in range(first, first + total) if n not in members)
        missing = tuple(f"{prefix}-{n:05d}-of-{total:05d}{SUPPORTED}" for n in islice(absent, _MISSING_NAMED))
        groups[stem] = WeightGroup(stem, tuple(members[n] for n in sorted(members)), missing=missing)
    return groups


def _is_variant(stem: str, stems: Mapping[str, WeightGroup]) -> bool:
    main, dot, variant = stem.rpartition(".")
    return bool(dot) and variant in _VARIANTS and main in stems


def _nothing_to_read(paths: list[str]) -> SkipError:
    adapters = [path for path in paths if _base(path).startswith(_ADAPTER) and is_weight(path)]
    others = [path for path in paths if _is_other_format(_base(path))]
    if adapters:
        return SkipError(
            "unsupported_format",
            f"{_few(adapters)} is a PEFT adapter: it holds differences from a base model, no weights of its "
            "own; merge it into its base and save that as safetensors",
        )
    if others:
        return SkipError(
            "unsupported_format",
            f"weights only in formats that are not read: {_few(others)}; expected {SUPPORTED}",
        )
    return SkipError("no_weights", f"no weights: expected a {SUPPORTED} file, found {_few(paths) or 'no files'}")


def _few(paths: list[str]) -> str:
    shown = ", ".join(paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5} more"


def _is_safetensors(name: str) -> bool:
    return name.lower().endswith(SUPPORTED) and len(name) > len(SUPPORTED)


def _is_other_format(name: str) -> bool:
    stem, dot, suffix = name.rpartition(".")
    return bool(dot and stem) and suffix.lower() in _OTHER_FORMATS and name.lower() not in _NOT_WEIGHTS


def _base(path: str) -> str:
    return path.rpartition("/")[2]
