"""The names that PyTorch gives to the tensors of Keras and flax, which call a matrix a kernel and keep it transposed.

The rules of transformers (`modeling_tf_pytorch_utils.py`, `modeling_flax_pytorch_utils.py`).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["from_flax", "from_keras", "kernel_order"]

_LAST: Final = {
    **{"kernel": "weight", "depthwise_kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"},
    **{"embedding": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_KERNELS: Final = frozenset(("kernel", "depthwise_kernel"))
# transformers writes `layer_._0` for the list item layer.0.
_LIST: Final = "_._"


def from_keras(layer: str, weight: str) -> str:
    """`weight` of `layer`, a TensorFlow path such as `tf_bert_model/bert/encoder/layer_._0/dense/kernel:0`."""
    parts = re.sub(r":\d+$", "", weight).replace(_LIST, "/").split("/")
    if len(parts) > 1 and (parts[0] == layer or parts[0].startswith("tf_")):
        parts = parts[1:]
    if _is_transformers(weight):
        # The first part is the class, which repeats the layer: bert/encoder/... stays as it is.
        return ".".join([*parts[:-1], _last(parts[-1])])
    if parts[0] != layer:
        parts = [layer, *parts]
    return ".".join([*parts[:-1], _last(parts[-1])])


def from_flax(path: tuple[str, ...]) -> str:
    """The keys that lead to a parameter, joined: `params`/encoder/layer/0/kernel is encoder.layer.0.weight."""
    if len(path) > 1 and path[0] in ("params", "batch_stats"):
        path = path[1:]
    return ".".join([*path[:-1], _last(path[-1])])


def kernel_order(name: str, axes: int) -> tuple[int, ...] | None:
    """How the axes of a kernel are permuted to PyTorch's, from the last part of its stored name; None as it is.

    [in, out] to [out, in]; convolutions [..., in, out] to [out, in, ...].
    """
    last = re.split(r"[/.]", re.sub(r":\d+$", "", name))[-1]
    if last not in _KERNELS or axes < 2:
        return None
    if last == "depthwise_kernel" and axes == 4:
        return (2, 3, 0, 1)
    return (axes - 1, axes - 2, *range(axes - 2))


def _is_transformers(weight: str) -> bool:
    return _LIST in weight or weight.startswith("tf_")


def _last(part: str) -> str:
    return _LAST.get(part, part)
