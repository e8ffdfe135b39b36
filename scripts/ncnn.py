"""Reading ncnn models: the layers from the `.param` text, their weights from the `.bin` beside it.

A `.bin` is the concatenation of every layer's weights in the order of the text, with no names and no index,
so a layer that is not understood is an error: everything after it would be misread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from store.errors import StopError

__all__ = ["Layer", "parse_param", "read_ncnn"]

MAGIC = "7767517"
FLOAT16 = 0x01306B47
FLOAT32 = 0
CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise", "Deconvolution"})
FROM_INPUT = -233  # `Scale` with this size takes its factors from its second input and stores none
WEIGHTLESS = frozenset(
    {"BinaryOp", "Concat", "Crop", "Dropout", "Eltwise", "Input", "Pooling", "ReLU", "Sigmoid", "Split"}
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a `.param` text; `settings` has ncnn's numbered parameters, arrays left out."""

    kind: str
    name: str
    settings: dict[int, float]

    def setting(self, key: int, default: int = 0) -> int:
        return int(self.settings.get(key, default))


def parse_param(text: str) -> list[Layer]:
    """The layers of a `.param` text, in order."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0].strip() != MAGIC:
        raise StopError(f"not an ncnn text model: expected {MAGIC} on the first line, found {lines[:1]}")
    expected = int(lines[1].split()[0])
    layers = [parse_line(line) for line in lines[2:]]
    if len(layers) != expected:
        raise StopError(f"ncnn text model announces {expected} layers and lists {len(layers)}")
    return layers


def parse_line(line: str) -> Layer:
    kind, name, inputs, outputs, *rest = line.split()
    settings: dict[int, float] = {}
    for item in rest[int(inputs) + int(outputs) :]:
        key, _, value = item.partition("=")
        if int(key) > -23300:  # -23300 and below are arrays (activation parameters): they hold no weights
            settings[int(key)] = float(value)
    return Layer(kind, name, settings)


def read_ncnn(param: str, weights: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors by `layer.weight` and `layer.bias`, in the file's precision, convolutions as (out, in, h, w).

    Raises StopError when a layer's kind is unknown or the bytes do not end with the last layer.
    """
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    offset = 0
    for layer in parse_param(param):
        plan = weight_plan(layer)
        if plan is None:
            continue
        shape, bias = plan
        flag = int(take(weights, np.dtype("<u4"), 1, offset, layer)[0])
        if flag not in (FLOAT16, FLOAT32):
            raise StopError(f"ncnn layer {layer.name}: flag {flag:#010x} is neither float16 nor float32")
        dtype = np.dtype("<f2" if flag == FLOAT16 else "<f4")
        count = int(np.prod(shape))
        offset += 4
        tensors[f"{layer.name}.weight"] = take(weights, dtype, count, offset, layer).reshape(shape)
        offset += -(-count * dtype.itemsize // 4) * 4  # padded to whole words
        if bias:
            tensors[f"{layer.name}.bias"] = take(weights, np.dtype("<f4"), bias, offset, layer)
            offset += 4 * bias
    if offset != len(weights):
        raise StopError(f"ncnn weights: the layers take {offset} bytes and the file has {len(weights)}")
    return tensors


def weight_plan(layer: Layer) -> tuple[tuple[int, ...], int] | None:
    """(shape of the weight, length of the bias) that `layer` stores; None when it stores nothing."""
    out = layer.setting(0)
    if layer.kind in CONVOLUTIONS:
        width = layer.setting(1)
        height = layer.setting(11, width)
        inner = layer.setting(6) // (out * width * height)
        return (out, inner, height, width), out * layer.setting(5)
    if layer.kind == "InnerProduct":
        return (out, layer.setting(2) // out), out * layer.setting(1)
    if layer.kind in WEIGHTLESS or (layer.kind == "Scale" and out == FROM_INPUT):
        return None
    raise StopError(f"ncnn layer {layer.name}: do not know what a {layer.kind} stores")


def take(weights: bytes, dtype: np.dtype[Any], count: int, offset: int, layer: Layer) -> np.ndarray[Any, Any]:
    if offset + count * dtype.itemsize > len(weights):
        raise StopError(f"ncnn weights end inside layer {layer.name}, at {len(weights)} bytes")
    return np.frombuffer(weights, dtype, count, offset)
