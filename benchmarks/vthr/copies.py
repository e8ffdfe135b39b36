"""What people do to a model's weights without training it: rounding to few bits, casting, pruning.

Each function changes one matrix, or one state; the values are given back dequantised, in the dtype they came in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.vthr.vit import State

GROUP = 32


def is_linear(name: str, tensor: torch.Tensor) -> bool:
    """Quantisers and pruners take the encoder's matrices, and leave embeddings, norms, biases and the head."""
    return name.startswith("encoder.") and tensor.ndim == 2


def on_matrices(state: State, change: Callable[[torch.Tensor], torch.Tensor]) -> State:
    return {name: change(tensor) if is_linear(name, tensor) else tensor for name, tensor in state.items()}


def levels(w: torch.Tensor, scale: torch.Tensor, most: int) -> torch.Tensor:
    """The nearest multiples of the scale, symmetric about zero; a scale of nothing gives nothing."""
    scale = scale.clamp_min(torch.finfo(w.dtype).tiny)
    return (w / scale).round().clamp(-most, most) * scale


def int8_tensor(w: torch.Tensor) -> torch.Tensor:
    """Symmetric, one scale for the matrix."""
    return levels(w, w.abs().max() / 127, 127)


def int8_channel(w: torch.Tensor) -> torch.Tensor:
    """Symmetric, one scale for each row, that is for each output."""
    return levels(w, w.abs().amax(1, keepdim=True) / 127, 127)


def int8_asymmetric(w: torch.Tensor) -> torch.Tensor:
    """One scale and one zero point for the matrix: 256 levels from its least to its largest value, one of them zero."""
    low, high = w.min().clamp_max(0), w.max().clamp_min(0)
    scale = ((high - low) / 255).clamp_min(torch.finfo(w.dtype).tiny)
    zero = (-low / scale).round()
    return ((w / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def int4_groups(w: torch.Tensor) -> torch.Tensor:
    """Symmetric, one scale for every 32 inputs of a row: 15 levels."""
    groups = w.reshape(len(w), -1, GROUP)
    return levels(groups, groups.abs().amax(2, keepdim=True) / 7, 7).reshape(w.shape)


def pruned(state: State, share: float) -> State:
    """The smallest values of all matrices together, set to zero."""
    sizes = torch.cat([tensor.abs().flatten() for name, tensor in state.items() if is_linear(name, tensor)])
    bound = sizes.kthvalue(max(1, int(share * len(sizes)))).values
    return on_matrices(state, lambda w: w * (w.abs() > bound))


def pruned_rows(state: State, share: float = 0.25) -> State:
    """The hidden units of each block with the smallest rows are silenced: row, bias and the column that reads them."""
    state = dict(state)
    for name in [name for name in state if name.endswith("intermediate.dense.weight")]:
        prefix = name.removesuffix("intermediate.dense.weight")
        size = state[name].norm(dim=1)
        kept = (size > size.kthvalue(max(1, int(share * len(size)))).values).to(size.dtype)
        bias, reader = f"{prefix}intermediate.dense.bias", f"{prefix}output.dense.weight"
        state[name], state[bias] = state[name] * kept[:, None], state[bias] * kept
        state[reader] = state[reader] * kept
    return state


def cast(state: State, dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) for name, tensor in state.items()}


# By name: the relation and the function.
COPIES: dict[str, tuple[str, Callable[[State], State]]] = {
    "pruned-30": ("pruned", lambda state: pruned(state, 0.3)),
    "pruned-60": ("pruned", lambda state: pruned(state, 0.6)),
    "pruned-rows": ("pruned", pruned_rows),
    "int8-tensor": ("quantized", lambda state: on_matrices(state, int8_tensor)),
    "int8-channel": ("quantized", lambda state: on_matrices(state, int8_channel)),
    "int8-asymmetric": ("quantized", lambda state: on_matrices(state, int8_asymmetric)),
    "int4-groups": ("quantized", lambda state: on_matrices(state, int4_groups)),
    "float16": ("cast", lambda state: cast(state, torch.float16)),
    "bfloat16": ("cast", lambda state: cast(state, torch.bfloat16)),
}
