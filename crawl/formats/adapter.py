"""A PEFT adapter (https://github.com/huggingface/peft) as what it adds to its base: for each matrix that it tunes, the
update scale * B A, under the name that the matrix has in the base.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.values import MAX_BESIDE, Stored, read_array, reordered
from crawl.names import escaped
from crawl.source import FileRef
from store.errors import SkipError

__all__ = ["updates"]

Found = dict[str, tuple[FileRef, TensorEntry]]

_LORA: Final = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+?)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?"
)
_FLOATS: Final = frozenset(("F64", "F32", "F16", "BF16"))


@dataclass(slots=True)
class _Product:
    """scale * B A, flat in C order, float32: B [rows, rank], A [rank, columns]."""

    a: Values
    b: Values
    rows: int
    rank: int
    columns: int
    scale: float
    held: NDArray[np.float32] | None = None

    @property
    def unit(self) -> int:
        return max(1, self.columns)

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        if self.held is None:
            self.held = read_array(self.a, open_file, (self.rank, self.columns)).astype(np.float32)
        top, bottom = first // self.columns, -(-(first + count) // self.columns)
        b = self.b.read(open_file, top * self.rank, (bottom - top) * self.rank).astype(np.float32)
        return np.asarray((b.reshape(-1, self.rank) * np.float32(self.scale)) @ self.held).reshape(-1)


def updates(found: Found, config: str | None, on_skip: OnSkip) -> Found:
    """The updates that the tensors of an adapter stand for, by the name of the matrix in the base.

    `config` is the text of adapter_config.json. What is no low-rank update (modules saved whole, magnitudes of DoRA,
    biases) is told to `on_skip`. Raises SkipError: "bad_adapter" without a readable configuration,
    "unsupported_adapter" for another kind than LoRA, and when no update is in it.
    """
    settings = _settings(config)
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    for name, (file, _) in found.items():
        match = _LORA.fullmatch(name)
        if match is None:
            on_skip(
                file.path, name, SkipError("not_an_update", f"{name}: it is no low-rank update, which is what is read")
            )
            continue
        sides.setdefault((match["module"], bool(match["embedding"])), {})[match["side"]] = name
    made: Found = {}
    for (module, embedding), pair in sides.items():
        file = found[next(iter(pair.values()))][0]
        try:
            if set(pair) != {"A", "B"}:
                raise SkipError("bad_adapter", f"{module}: expected A and B, found one of them")
            made[f"{module}.weight"] = _update(found, module, pair, embedding, settings)
        except SkipError as error:
            on_skip(file.path, f"{module}.weight", error)
    if not made:
        raise SkipError("unsupported_adapter", "expected the low-rank updates of a LoRA adapter, found none in it")
    return made


def _update(
    found: Found, module: str, pair: Mapping[str, str], embedding: bool, settings: Mapping[str, Any]
) -> tuple[FileRef, TensorEntry]:
    (file_a, a), (file_b, b) = found[pair["A"]], found[pair["B"]]
    if a.dtype not in _FLOATS or b.dtype not in _FLOATS or len(a.shape) != len(b.shape) or len(a.shape) < 2:
        raise SkipError("bad_adapter", f"{module}: expected two matrices of floats, found {a.shape} and {b.shape}")
    rank, columns, rows = a.shape[0], math.prod(a.shape[1:]), b.shape[0]
    # The second convolution of an adapter is of width one: it is a matrix.
    if b.shape[1] != rank or math.prod(b.shape[2:]) != 1 or not rank or not rows * columns:
        raise SkipError("bad_adapter", f"{module}: expected B of rank {rank}, found shape {list(b.shape)[:8]}")
    if a.elements > MAX_BESIDE:
        raise SkipError("too_large", f"{module}: expected A of at most {MAX_BESIDE} values, found {a.elements}")
    scale = _scale(module, rank, settings)
    values: Values = _Product(_values(file_a, a), _values(file_b, b), rows, rank, columns, scale)
    shape: tuple[int, ...] = (rows, *a.shape[1:])
    if len(shape) == 2 and (embedding or settings.get("fan_in_fan_out") is True):
        # An embedding [vocabulary, width] and GPT-2's convolutions lie the other way round.
        values, shape = reordered(values, shape, (1, 0), 4)
    # B is read in order and A once: B's place is what is announced.
    return file_b, TensorEntry(f"{module}.weight", "F32", shape, b.start, b.stop, values, f"lora {rank}")


def _values(file: FileRef, entry: TensorEntry) -> Values:
    return entry.values or Stored(entry.file or file, entry.start, entry.dtype)


def _scale(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    """lora_alpha / r, or / sqrt(r) with rank stabilisation; both may have patterns for single modules."""
    alpha = _matching(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8))
    declared = _matching(settings.get("rank_pattern"), module, settings.get("r", rank))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or not isinstance(declared, int):
        raise SkipError("bad_adapter", f"{module}: expected numbers as lora_alpha and r in adapter_config.json")
    # The rank that is there counts: configurations are edited by hand.
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") is True else rank)


def _matching(patterns: object, module: str, default: Any) -> Any:
    """The entry of a pattern table whose key ends the module's name; PEFT's keys are regular expressions, which are
    not run: one that is more than a name matches nothing."""
    if isinstance(patterns, dict):
        for key, value in patterns.items():
            if isinstance(key, str) and (module == key or module.endswith(f".{key.lstrip('^.*')}")):
                return value
    return default


def _settings(config: str | None) -> dict[str, Any]:
    if config is None:
        raise SkipError("bad_adapter", "expected adapter_config.json beside the adapter, found none")
    try:
        settings = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise SkipError("bad_adapter", "expected adapter_config.json to be JSON, found something else") from error
    if not isinstance(settings, dict):
        raise SkipError("bad_adapter", "expected adapter_config.json to be an object, found something else")
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise SkipError("unsupported_adapter", f"expected a LoRA adapter, found {escaped(str(kind)[:40])}")
    return settings
