"""Reading Keras weight files (HDF5, as `save_weights` and `model.save` of Keras 1 and 2 write them)."""

from __future__ import annotations

from typing import IO, Any

import h5py
import numpy as np

from store.errors import StopError

__all__ = ["read_keras"]


def read_keras(file: IO[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors by `layer.weight`, in the model's own order: `lstm_1/lstm_1/kernel:0` becomes `lstm_1.kernel`.

    Optimizer state, which a whole-model file keeps beside the weights, is left out.
    """
    with h5py.File(file, "r") as opened:
        # save_weights puts the layers on top, model.save one level down, beside `optimizer_weights`.
        root = opened.get("model_weights", opened)
        if "layer_names" not in root.attrs:
            raise StopError("not a Keras weight file: attribute layer_names is missing")
        return {
            dotted_name(layer, weight): np.asarray(root[layer][weight][()])
            for layer in map(as_text, root.attrs["layer_names"])
            for weight in map(as_text, root[layer].attrs["weight_names"])
        }


def as_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def dotted_name(layer: str, weight: str) -> str:
    """`weight` is a TensorFlow path; its first part usually repeats the layer, and `:0` counts outputs."""
    parts = weight.rsplit(":", 1)[0].split("/")
    if parts[0] == layer:
        parts = parts[1:]
    return ".".join([layer, *parts])
