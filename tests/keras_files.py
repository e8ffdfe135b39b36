"""Files as releases of Keras write them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Layers", "keras", "keras3", "layers_of_keras_3"]

Array = NDArray[Any]
Layers = dict[str, tuple[str, list[Array]]]
"""Path of a layer's group -> (what the layer is called, its variables)."""


def keras(path: Path, layers: dict[str, dict[str, Array]], nested: bool = False, **settings: Any) -> Path:
    """What Keras 2 writes: save_weights, or save with everything one level down."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if nested else file
        if nested:
            file.create_group("optimizer_weights").create_dataset("m", data=np.ones(5))
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        root.attrs["backend"] = b"tensorflow"
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group.create_dataset(name, data=array, **settings)
    return path


def keras3(path: Path, layers: Layers, named: bool = True, packed: int = zipfile.ZIP_STORED) -> Path:
    """What Keras 3 writes: `save_weights`, or `save`, which puts the same file into a zip file."""
    weights = path if path.suffix == ".h5" else path.with_suffix(".h5")
    with h5py.File(weights, "w") as file:
        file.create_group("optimizer/vars").create_dataset("0", data=np.ones(5))
        for group, (name, arrays) in layers.items():
            held = file.create_group(f"{group}/vars" if group else "vars")
            if named:
                held.attrs["name"] = name
            for at, array in enumerate(arrays):
                held.create_dataset(str(at), data=array)
    if path != weights:
        with zipfile.ZipFile(path, "w", packed) as file:
            file.writestr("metadata.json", "{}")
            file.writestr("config.json", "{}" * 1000)
            file.write(weights, "model.weights.h5")
        weights.unlink()
    return path


def layers_of_keras_3() -> tuple[Layers, dict[str, dict[str, Array]]]:
    """Some layers as Keras 3 writes them, and the same as Keras 2 does, in a process that made others before."""
    random = np.random.default_rng(0)
    dense, conv = random.normal(size=(6, 8)).astype(np.float32), random.normal(size=(3, 3, 4, 5)).astype(np.float32)
    deep = random.normal(size=(3, 3, 5, 1)).astype(np.float32)
    row, half = dense[0], dense.astype(ml_dtypes.bfloat16)
    new: Layers = {
        "": ("model_7", []),
        "layers/conv2d": ("conv2d_4", [conv, conv[0, 0, 0]]),
        "layers/depthwise_conv2d": ("depthwise_conv2d", [deep, row[:5]]),
        "layers/batch_normalization": ("batch_normalization_1", [row, row + 1, row + 2]),
        "layers/bidirectional": ("bidirectional", []),
        "layers/bidirectional/forward_layer": ("forward_lstm", []),
        "layers/bidirectional/forward_layer/cell": ("lstm_cell", [dense, dense + 1, row]),
        "layers/dense": ("mine", [dense, row]),
        "layers/dense_1": ("dense_3", [dense + 2]),
        "layers/time_distributed": ("time_distributed", []),
        "layers/time_distributed/layer": ("dense_2", [half]),
        "layers/my_layer": ("my_layer", [dense + 3]),
    }
    old: dict[str, dict[str, Array]] = {
        "conv2d_1": {"conv2d_1/kernel:0": conv, "conv2d_1/bias:0": conv[0, 0, 0]},
        "depthwise_conv2d": {"m/depthwise_conv2d/kernel": deep, "m/depthwise_conv2d/bias": row[:5]},
        "batch_normalization": {
            "batch_normalization_3/beta:0": row,
            "batch_normalization_3/moving_mean:0": row + 1,
            "batch_normalization_3/moving_variance:0": row + 2,
        },
        "bidirectional": {
            f"bidirectional/forward_lstm/lstm_cell_5/{name}:0": array
            for name, array in (("kernel", dense), ("recurrent_kernel", dense + 1), ("bias", row))
        },
        "mine": {"mine/kernel:0": dense, "mine/bias:0": row},
        "dense_1": {"dense_1/kernel:0": dense + 2},
        "time_distributed": {"time_distributed/dense/kernel:0": half},
        "my_layer": {"my_layer/0:0": dense + 3},
    }
    return new, old
