"""A PEFT adapter (https://github.com/huggingface/peft) as what it adds to its base: for each matrix that it tunes, the
update scale * B A, under the name that the matrix has in the base.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry, Values
from crawl.formats.values import MAX_BESIDE, Stored, finite, read_array
from crawl.names import escaped
from crawl.source import FileRef
from store.errors import SkipError

__all__ = ["updates"]

MAX_PARTS: Final = 32
"""Parts of a module's name that are looked at one by one."""

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


@dataclass(slots=True)
class _Columns:
    """The columns of a small matrix [rows, columns] one after another: what is asked for of its transpose."""

    inner: Values
    rows: int
    columns: int
    held: NDArray[Any] | None = None

    @property
    def unit(self) -> int:
        return 1

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        if self.held is None:
            self.held = np.ascontiguousarray(read_array(self.inner, open_file, (self.rows, self.columns)).T)
        return self.held.reshape(-1)[first : first + count]


def updates(found: Found, config: str | None, on_skip: OnSkip) -> Found:
    """The updates that the tensors of an adapter stand for, by the name of the matrix in the base.

    `config` is the text of adapter_config.json. What is no low-rank update (modules saved whole, magnitudes of DoRA,
    biases) is told to `on_skip`. Raises SkipError: "bad_adapter" without a readable configuration,
    "unsupported_adapter" for another kind than LoRA, and when no update is in it.
    """
    settings = _settings(config)
    alphas, ranks = _Patterns(settings.get("alpha_pattern")), _Patterns(settings.get("rank_pattern"))
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
            # Both may have patterns for single modules.
            alpha = alphas.of(module, settings.get("lora_alpha", 8))
            rank = ranks.of(module, settings.get("r", 1))
            scale = finite(alpha) if isinstance(rank, int) else None
            if scale is None:
                raise SkipError("bad_adapter", f"{module}: expected numbers as lora_alpha and r in adapter_config.json")
            made[f"{module}.weight"] = _update(found, module, pair, embedding, scale, settings)
        except SkipError as error:
            on_skip(file.path, f"{module}.weight", error)
    if not made:
        raise SkipError("unsupported_adapter", "expected the low-rank updates of a LoRA adapter, found none in it")
    return made


def _update(
    found: Found, module: str, pair: Mapping[str, str], embedding: bool, alpha: float, settings: Mapping[str, Any]
) -> tuple[FileRef, TensorEntry]:
    (file_a, a), (file_b, b) = found[pair["A"]], found[pair["B"]]
    packed = a.stored is not None or b.stored is not None
    if packed or {a.dtype, b.dtype} - _FLOATS or len(a.shape) != len(b.shape) or len(a.shape) < 2:
        raise SkipError("bad_adapter", f"{module}: expected two matrices of floats, found {a.shape} and {b.shape}")
    rank, columns, rows = a.shape[0], math.prod(a.shape[1:]), b.shape[0]
    # The second convolution of an adapter is of width one: it is a matrix.
    if b.shape[1] != rank or math.prod(b.shape[2:]) != 1 or not rank or not rows * columns:
        raise SkipError("bad_adapter", f"{module}: expected B of rank {rank}, found shape {list(b.shape)[:8]}")
    if a.elements > MAX_BESIDE:
        raise SkipError("too_large", f"{module}: expected A of at most {MAX_BESIDE} values, found {a.elements}")
    # lora_alpha / r, or / sqrt(r) with rank stabilisation. The rank that is there counts: configurations are edited by
    # hand.
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") is True else rank)
    values_a, values_b = _values(file_a, a), _values(file_b, b)
    values = _Product(values_a, values_b, rows, rank, columns, scale)
    shape: tuple[int, ...] = (rows, *a.shape[1:])
    if len(shape) == 2 and (embedding or settings.get("fan_in_fan_out") is True):
        # An embedding [vocabulary, width] and GPT-2's convolutions lie the other way round: A'B'. Transposing the
        # product would take all of it for a part of it.
        turned_a, turned_b = _Columns(values_a, rank, columns), _Columns(values_b, rows, rank)
        values, shape = _Product(turned_b, turned_a, columns, rank, rows, scale), (columns, rows)
    # B is read in order and A once: B's place is what is announced.
    return file_b, TensorEntry(f"{module}.weight", "F32", shape, b.start, b.stop, values, f"lora {rank}")


def _values(file: FileRef, entry: TensorEntry) -> Values:
    return entry.values or Stored(entry.file or file, entry.start, entry.dtype)


class _Patterns:
    """A table of settings for single modules, by the end of their names. PEFT's keys are regular expressions, which are
    not run: one that is more than a name matches nothing."""

    def __init__(self, table: object) -> None:
        self._ends: dict[str, tuple[int, Any]] = {}
        for at, (key, value) in enumerate(table.items() if isinstance(table, dict) else ()):
            self._ends.setdefault(key.lstrip("^.*"), (at, value))

    def of(self, module: str, default: Any) -> Any:
        """The value of the first key that ends the module's name, in whole parts."""
        # Each end of the name is looked up, not each key compared: there may be thousands of both.
        parts = module.rsplit(".", MAX_PARTS)
        ends = (".".join(parts[at:]) for at in range(len(parts)))
        return min((self._ends[end] for end in ends if end in self._ends), default=(0, default), key=itemgetter(0))[1]


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
