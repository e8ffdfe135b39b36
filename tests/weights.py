"""Small models of random weights: roots, models fine-tuned from them, and strangers. Nothing in them is learned."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

__all__ = ["Weights", "change", "family", "raw_file", "root", "save", "tuned"]

Weights = dict[str, NDArray[Any]]


def root(seed: int, layers: int = 3, size: int = 48) -> Weights:
    """A model of `layers` square float32 tensors."""
    rng = np.random.default_rng(seed)
    return {f"layers.{i}.weight": rng.normal(0, 0.05, (size, size)).astype(np.float32) for i in range(layers)}


def tuned(parent: Weights, seed: int, noise: float = 0.004) -> Weights:
    """A model that was fine-tuned from `parent`: its weights moved by `noise`."""
    rng = np.random.default_rng(seed)
    return {name: w + rng.normal(0, noise, w.shape).astype(w.dtype) for name, w in parent.items()}


def change(weights: Weights, layer: int, **at: float) -> Weights:
    """A copy whose tensor `layer` has the value `at["all"]` everywhere, or `at["one"]` at one place."""
    changed = {name: w.copy() for name, w in weights.items()}
    tensor = changed[f"layers.{layer}.weight"]
    if "all" in at:
        tensor[:] = at["all"]
    if "one" in at:
        tensor[7, 5] = at["one"]
    return changed


def save(folder: Path, weights: Weights, name: str = "model.safetensors") -> Path:
    """Write a model; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / name)
    return folder / name


def family(source: Path, name: str, seed: int, children: int = 1) -> None:
    """`name/root` and `name/child-0`, ..., which were fine-tuned from it, each less than the one before."""
    parent = root(seed)
    save(source / name / "root", parent)
    for i in range(children):
        save(source / name / f"child-{i}", tuned(parent, 1000 * seed + i + 1, 0.006 / (i + 1)))


def raw_file(path: Path, header: Mapping[str, object] | bytes, data: bytes, length: int | None = None) -> Path:
    """A file that looks like safetensors, right or wrong: `length` is what it says of its header's length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path
