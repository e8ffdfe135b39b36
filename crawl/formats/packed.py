"""Weights that several tensors of a safetensors file stand for together, as the one tensor that they were.

- GPTQ (AutoGPTQ, `qlinear_cuda_old.py`): `qweight` [in * bits / 32, out], `qzeros` [groups, out * bits / 32], `scales`
  [groups, out], `g_idx` [in]; w[i, o] = scales[g, o] * (q[i, o] - zeros[g, o] - 1).
- AWQ (`packing_utils.py` of AutoAWQ): `qweight` [in, out / 8], the eight values of an int32 in another order, the
  same for `qzeros`; w[i, o] = scales[g, o] * (q[i, o] - zeros[g, o]).
- bitsandbytes, 4 bits (`functional.py`, QuantState): `weight` two values a byte, `weight.absmax` for each block, itself
  in 8 bits where `weight.nested_absmax` is there, `weight.quant_map` the 16 values; 8 bits: `weight` and `SCB`.
- compressed-tensors (`compressors/pack_quantized.py`): `weight_packed` [out, in * bits / 32], `weight_scale` for each
  row or group of a row, `weight_shape`; w = scale * (q - 2^(bits - 1)).
- float8 and int8 with `weight_scale` or `weight_scale_inv`: for the tensor, for each row, or for blocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry
from crawl.formats.packed_values import AwqWeights, BlockWeights, GptqWeights, PackedRows, ScaledWeights
from crawl.formats.values import Stored, Transposed, finite, read_array
from crawl.source import FileRef
from store.errors import SkipError

__all__ = ["is_packed", "unpacked"]

Found = dict[str, tuple[FileRef, TensorEntry]]

_PARTS: Final = (".qweight", ".weight_packed", ".SCB", ".weight.absmax", ".weight_scale", ".weight_scale_inv")
_STATE: Final = ".weight.quant_state.bitsandbytes__"
_MAX_STATE: Final = 1 << 16


def is_packed(names: Found) -> bool:
    """True when some tensors are parts of one."""
    return any(name.endswith(_PARTS) for name in names)


def unpacked(found: Found, config: str | None, open_file: OpenFile, on_skip: OnSkip) -> Found:
    """`found` with each packed weight in place of its parts, under the name `MODULE.weight`; float32.

    `config` is the text of config.json, for what tensors do not tell. Reads the small states of bitsandbytes. Parts
    that do not fit each other are told to `on_skip` and left out.
    """
    result = dict(found)
    second = _is_second_format(config)
    for name in sorted(name for name in found if name.endswith(_PARTS)):
        if name not in result:
            continue
        part = next(end for end in reversed(_PARTS) if name.endswith(end))
        module = name[: -len(part)]
        main = name if part in (".qweight", ".weight_packed") else f"{module}.weight"
        if main not in found:
            continue
        file = found[main][0]
        try:
            made = _compose(part, module, found, second, open_file)
        except SkipError as error:
            on_skip(file.path, main, error)
            made = None
        for helper in _helpers(module, found, part):
            result.pop(helper, None)
        result.pop(main, None)
        if made is not None:
            result[f"{module}.weight"] = (file, made)
    return result


def _helpers(module: str, found: Found, part: str) -> list[str]:
    """The names of all tensors of a packed module that are no weights themselves."""
    ends = {
        ".qweight": ("qzeros", "scales", "g_idx"),
        ".SCB": ("SCB", "weight_format"),
        ".weight_packed": ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"),
        ".weight.absmax": tuple(
            f"weight.{end}" for end in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
        ),
    }.get(part, ("weight_scale", "weight_scale_inv", "input_scale", "weight_zero_point"))
    states = [name for kind in ("nf4", "fp4") if (name := f"{module}{_STATE}{kind}") in found]
    return [*(f"{module}.{end}" for end in ends), *states]


def _compose(part: str, module: str, found: Found, second: bool, open_file: OpenFile) -> TensorEntry:
    makers: dict[str, Callable[[], TensorEntry]] = {
        ".qweight": lambda: _gptq_or_awq(module, found, second),
        ".SCB": lambda: _int8(module, found),
        ".weight_packed": lambda: _packed_rows(module, found, open_file),
        ".weight.absmax": lambda: _four_bits(module, found, open_file),
    }
    return makers.get(part, lambda: _scaled(module, part, found))()


def _gptq_or_awq(module: str, found: Found, second: bool) -> TensorEntry:
    weight, zeros, scales = (_stored(module, end, found, 2) for end in ("qweight", "qzeros", "scales"))
    entry = found[f"{module}.qweight"][1]
    rows, columns = entry.shape
    groups, outputs = found[f"{module}.scales"][1].shape
    zero_shape = found[f"{module}.qzeros"][1].shape
    if not (groups and outputs and zero_shape[1]) or 32 * zero_shape[1] % outputs or zero_shape[0] != groups:
        raise _bad(module, f"zeros for {groups} x {outputs} scales", f"shape {list(zero_shape)}")
    bits = 32 * zero_shape[1] // outputs
    if bits not in (2, 4, 8) or entry.dtype != "I32" or found[f"{module}.qzeros"][1].dtype != "I32":
        raise _bad(module, "2, 4 or 8 bits a value in int32", f"{bits} bits in {entry.dtype}")
    pack = 32 // bits
    if columns == outputs:
        inputs = rows * pack
        index = _stored(module, "g_idx", found, 1) if f"{module}.g_idx" in found else None
        if index is not None and found[f"{module}.g_idx"][1].shape != (inputs,):
            raise _bad(module, f"g_idx of {inputs}", f"{list(found[f'{module}.g_idx'][1].shape)}")
        inner: Any = GptqWeights(weight, zeros, scales, index, inputs, outputs, groups, bits, 0 if second else 1)
        kind = f"gptq{bits}"
    elif columns * pack == outputs and bits == 4:
        inputs = rows
        inner = AwqWeights(weight, zeros, scales, inputs, outputs, groups)
        kind = "awq4"
    else:
        raise _bad(module, f"packed weights for {outputs} outputs", f"shape {list(entry.shape)}")
    if inputs % groups:
        raise _bad(module, f"groups that divide {inputs} inputs", f"{groups}")
    values = Transposed(inner, outputs, inputs, 4)
    return TensorEntry(f"{module}.weight", "F32", (outputs, inputs), entry.start, entry.stop, values, kind)


def _int8(module: str, found: Found) -> TensorEntry:
    entry = found[f"{module}.weight"][1]
    weight, scale = _stored(module, "weight", found, 2), _stored(module, "SCB", found, 1)
    if entry.dtype != "I8" or found[f"{module}.SCB"][1].shape != entry.shape[:1]:
        raise _bad(module, "int8 rows with a scale each", f"{entry.dtype} {list(entry.shape)}")
    shape = (entry.shape[0], entry.shape[1])
    values = ScaledWeights(weight, scale, shape, (1, shape[1]), 1 / 127)
    return TensorEntry(f"{module}.weight", "F32", entry.shape, entry.start, entry.stop, values, "int8")


def _packed_rows(module: str, found: Found, open_file: OpenFile) -> TensorEntry:
    entry = found[f"{module}.weight_packed"][1]
    weight, scale = (_stored(module, end, found, 2) for end in ("weight_packed", "weight_scale"))
    said = found.get(f"{module}.weight_shape")
    if (
        said is None
        or said[1].elements != 2
        or said[1].dtype not in ("I64", "I32")
        or f"{module}.weight_zero_point" in found
    ):
        raise _bad(module, "weight_shape and no zero points", "another layout")
    sizes = read_array(Stored(said[0], said[1].start, said[1].dtype), open_file, (2,))
    rows, columns = int(sizes[0]), int(sizes[1])
    words, parts = entry.shape[1], found[f"{module}.weight_scale"][1].shape
    bits = 32 * words // columns if columns > 0 else 0
    if bits not in (2, 4, 8) or entry.dtype != "I32" or rows != entry.shape[0] or columns * bits != 32 * words:
        raise _bad(module, f"{rows} x {columns} values in int32", f"{entry.dtype} {list(entry.shape)}")
    if parts[0] != rows or not parts[1] or columns % parts[1]:
        raise _bad(module, f"a scale for each row or group of {rows} x {columns}", f"{list(parts)}")
    values = ScaledWeights(
        PackedRows(weight, bits), scale, (rows, columns), (1, columns // parts[1]), 1.0, (parts[0], parts[1])
    )
    return TensorEntry(f"{module}.weight", "F32", (rows, columns), entry.start, entry.stop, values, f"packed int{bits}")


def _scaled(module: str, part: str, found: Found) -> TensorEntry:
    entry = found[f"{module}.weight"][1]
    scale = found[f"{module}{part}"][1]
    if entry.dtype not in ("F8_E4M3", "F8_E5M2", "I8") or len(entry.shape) != 2 or not entry.elements:
        raise _bad(module, "a float8 or int8 matrix with a scale", f"{entry.dtype} {list(entry.shape)}")
    shape = entry.shape[0], entry.shape[1]
    sides = (*scale.shape, 1, 1)
    parts = sides[0], sides[1]
    if len(scale.shape) > 2 or not all(parts):
        raise _bad(module, "a scale for the tensor, its rows or its blocks", f"shape {list(scale.shape)}")
    block = _block(shape[0], parts[0]), _block(shape[1], parts[1])
    values = ScaledWeights(
        _stored(module, "weight", found, 2), _stored(module, part[1:], found, None), shape, block, 1.0, parts
    )
    return TensorEntry(
        f"{module}.weight", "F32", entry.shape, entry.start, entry.stop, values, f"scaled {entry.dtype.lower()}"
    )


def _block(size: int, parts: int) -> int:
    """The length of blocks of which `parts` cover `size`: a power of two, where the last one may be cut short."""
    length = -(-size // parts)
    return length if parts == 1 else 1 << math.ceil(math.log2(length))


def _four_bits(module: str, found: Found, open_file: OpenFile) -> TensorEntry:
    kind = next((kind for kind in ("nf4", "fp4") if f"{module}{_STATE}{kind}" in found), None)
    entry = found[f"{module}.weight"][1]
    if kind is None or entry.dtype != "U8":
        raise _bad(module, "bytes with a quant_state", entry.dtype)
    state = _read_state(f"{module}{_STATE}{kind}", found, open_file)
    shape, block = state.get("shape"), state.get("blocksize")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise _bad(module, "a shape in its quant_state", f"{shape!r:.60}")
    elements = math.prod(shape)
    absmax = found[f"{module}.weight.absmax"][1]
    if type(block) is not int or not 2 <= block <= 65536 or block % 2 or entry.elements != -(-elements // 2):
        raise _bad(module, f"{elements} values in blocks", f"{entry.elements} bytes in blocks of {block!r:.20}")
    for end, count in (("quant_map", 16), ("nested_quant_map", 256)):
        table = found.get(f"{module}.weight.{end}")
        if table is not None and table[1].elements != count:
            raise _bad(module, f"{end} of {count} values", f"{table[1].elements}")
    if absmax.elements != -(-elements // block):
        raise _bad(module, f"a scale for each of {elements // block} blocks", f"{absmax.elements}")
    nested = f"{module}.weight.nested_absmax" in found
    inner, offset = state.get("nested_blocksize"), finite(state.get("nested_offset", 0.0))
    if nested and (type(inner) is not int or inner < 1 or offset is None):
        raise _bad(module, "a nested_blocksize in its quant_state", f"{inner!r:.20}")
    values = BlockWeights(
        _stored(module, "weight", found, None),
        _stored(module, "weight.absmax", found, None),
        _stored(module, "weight.quant_map", found, None),
        _stored(module, "weight.nested_absmax", found, None) if nested else None,
        _stored(module, "weight.nested_quant_map", found, None) if nested else None,
        elements,
        block,
        absmax.elements,
        inner if nested and isinstance(inner, int) else 1,
        offset if nested and offset is not None else 0.0,
        found[f"{module}.weight.nested_absmax"][1].elements if nested else 0,
    )
    return TensorEntry(f"{module}.weight", "F32", tuple(shape), entry.start, entry.stop, values, kind)


def _read_state(name: str, found: Found, open_file: OpenFile) -> dict[str, Any]:
    file, entry = found[name]
    if entry.dtype != "U8" or entry.elements > _MAX_STATE:
        raise SkipError("bad_quantization", f"tensor {name}: expected a small state, found {entry.elements} values")
    raw = read_array(Stored(file, entry.start, "U8"), open_file, (entry.elements,)).astype(np.uint8).tobytes()
    try:
        state = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SkipError("bad_quantization", f"tensor {name}: expected JSON, found something else") from error
    return state if isinstance(state, dict) else {}


def _stored(module: str, end: str, found: Found, axes: int | None) -> Stored:
    """Where a part lies. Raises SkipError when it is not there or has not as many axes."""
    name = f"{module}.{end}"
    if name not in found or (axes is not None and len(found[name][1].shape) != axes):
        raise _bad(module, f"{end} of {axes} axes", "none")
    file, entry = found[name]
    return Stored(file, entry.start, entry.dtype)


def _is_second_format(config: str | None) -> bool:
    """True when config.json says that GPTQ's zeros are stored as they are, not less 1."""
    try:
        found = json.loads(config or "{}")
    except (ValueError, RecursionError):
        return False
    quantization = found.get("quantization_config") if isinstance(found, dict) else None
    return isinstance(quantization, dict) and quantization.get("checkpoint_format") == "gptq_v2"


def _bad(module: str, expected: str, found: str) -> SkipError:
    return SkipError("bad_quantization", f"module {module}: expected {expected}, found {found}")
