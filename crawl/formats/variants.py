"""Which names are those of a variant of another file: a precision, a quantisation."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

__all__ = ["is_variant", "least_quantized"]

_VARIANTS: Final = frozenset(["fp64", "fp32", "fp16", "bf16", "fp8", "int8", "int4", "8bit", "4bit", "ema", "non_ema"])
# transformers.js and optimum put the variant of an ONNX file behind an underscore.
_ONNX: Final = re.compile(r"(.+)_(fp16|int8|uint8|quantized|q4|q4f16|bnb4|O[1-4]|qint8\w*|quint8\w*)", re.ASCII)

_QUANTISATION: Final = re.compile(
    r"(?P<base>.*?)[-._]?(?P<kind>f32|fp32|bf16|f16|fp16|i?q\d+(_\w+)?|tq\d_\d|mxfp4(_moe)?)(?P<rest>\.gguf)?",
    re.IGNORECASE | re.ASCII,
)
_WHOLE: Final = ("f32", "fp32", "bf16", "f16", "fp16")
_PROJECTOR: Final = "mmproj"


def is_variant(stem: str, stems: Collection[str]) -> bool:
    """True when `stem` names another precision of one of `stems`: `net.fp16` beside `net`."""
    main, dot, variant = stem.rpartition(".")
    if dot and variant in _VARIANTS and main in stems:
        return True
    match = _ONNX.fullmatch(stem)
    return match is not None and match[1] in stems


def least_quantized(stems: Collection[str]) -> list[str]:
    """Of the GGUF files of each model, the stem of the least quantised one; sorted.

    `m-F16`, `m.Q8_0` and `m-Q4_K_M` are one model. A projector (`mmproj-...`) is no model where another file is one.
    """
    models: dict[str, list[tuple[tuple[float, str], str]]] = {}
    for stem in stems:
        if _PROJECTOR in stem.lower() and not all(_PROJECTOR in other.lower() for other in stems):
            continue
        match = _QUANTISATION.fullmatch(stem)
        base, kind = (match["base"], match["kind"].lower()) if match else (stem, "")
        models.setdefault(base.lower(), []).append(((-_bits(kind), kind), stem))
    return sorted(min(candidates)[1] for candidates in models.values())


def _bits(kind: str) -> float:
    """About how many bits a value takes; a name that says nothing is taken for whole."""
    if kind in _WHOLE or not kind:
        return 32.0 - (_WHOLE.index(kind) if kind else 0)
    bits = re.search(r"\d+", kind)
    # Of the same width, K-quants keep more than the old ones, and `_L` more than `_S`.
    extra = {"l": 0.3, "m": 0.2, "s": 0.1}.get(kind[-1], 0.0) + (0.05 if "k" in kind else 0.0)
    return (float(bits[0]) if bits else 0.0) + extra - (0.5 if kind.startswith(("iq", "tq")) else 0.0)
