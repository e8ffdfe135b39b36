"""The names that PyTorch gives to the tensors of flax and Keras, which call a matrix a kernel and keep it transposed.

The rules of transformers (`modeling_tf_pytorch_utils.py`, `modeling_flax_pytorch_utils.py`). What Keras calls layers:
`keras_names`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["from_flax", "kernel_order", "last_part"]

_LAST: Final = {
    **{"kernel": "weight", "depthwise_kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"},
    **{"embedding": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_KERNELS: Final = frozenset(("kernel", "depthwise_kernel"))


def from_flax(path: tuple[str, ...]) -> str:
    """The keys that lead to a parameter, joined: `params`/encoder/layer/0/kernel is encoder.layer.0.weight."""
    if len(path) > 1 and path[0] in ("params", "batch_stats"):
        path = path[1:]
    return ".".join([*path[:-1], last_part(path[-1])])


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


def last_part(part: str) -> str:
    """PyTorch's word for the last part of a name."""
    return _LAST.get(part, part)
