"""One BERT written by the libraries of every format, as their own converters write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import h5py
import msgpack
import numpy as np
import onnx
import torch
from gguf.quants import quantize
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

__all__ = ["small_bert", "write_every_format", "write_gguf"]

Array = NDArray[Any]
State = Mapping[str, Array]

LINEAR = re.compile(r"(.*)\.(query|key|value|dense)\.weight")


def small_bert(layers: int = 3, width: int = 64) -> dict[str, Array]:
    """Random weights under transformers' names."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (200, width),
        "embeddings.position_embeddings.weight": (32, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{at}.{name}.weight": (width, width), f"{at}.{name}.bias": (width,)}
        shapes |= {f"{at}.intermediate.dense.weight": (4 * width, width), f"{at}.intermediate.dense.bias": (4 * width,)}
        shapes |= {f"{at}.output.dense.weight": (width, 4 * width), f"{at}.output.dense.bias": (width,)}
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{norm}.weight": (width,), f"{at}.{norm}.bias": (width,)}
    return {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def write_every_format(root: Path, state: State) -> list[str]:
    """A folder a format below `root`, each with the whole of the model; their names."""
    writers = {
        "safetensors": _safetensors,
        "torch": _torch,
        "torch-old": _torch_old,
        "torch-shards": _torch_shards,
        "flax": _flax,
        "keras": _keras,
        "onnx": _onnx,
        "gguf-f32": _gguf_f32,
        "gguf-f16": _gguf_f16,
    }
    for name, write in writers.items():
        folder = root / name
        folder.mkdir(parents=True)
        write(folder, state)
    return list(writers)


def _safetensors(folder: Path, state: State) -> None:
    save_file(dict(state), folder / "model.safetensors")


def _tensors(state: State) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in state.items()}


def _torch(folder: Path, state: State) -> None:
    torch.save(_tensors(state), folder / "pytorch_model.bin")


def _torch_old(folder: Path, state: State) -> None:
    torch.save(
        {f"bert.{name}": tensor for name, tensor in _tensors(state).items()},
        folder / "pytorch_model.bin",
        _use_new_zipfile_serialization=False,
    )


def _torch_shards(folder: Path, state: State) -> None:
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    placed = {name: files[at % 2] for at, name in enumerate(state)}
    for file in files:
        torch.save({n: t for n, t in _tensors(state).items() if placed[n] == file}, folder / file)
    index = ",".join(f'"{name}":"{file}"' for name, file in placed.items())
    (folder / "pytorch_model.bin.index.json").write_text(f'{{"metadata":{{}},"weight_map":{{{index}}}}}')


def _turned(name: str, array: Array) -> Array:
    return np.ascontiguousarray(array.T) if LINEAR.fullmatch(name) else array


def _flax(folder: Path, state: State) -> None:
    """As FlaxBertModel saves it."""
    tree: dict[str, Any] = {}
    for name, array in state.items():
        *path, last = name.split(".")
        if last == "weight":
            last = "kernel" if LINEAR.fullmatch(name) else "scale" if "LayerNorm" in name else "embedding"
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        stored = _turned(name, array)
        packed = msgpack.packb((stored.shape, stored.dtype.name, stored.tobytes()), use_bin_type=True)
        inner[last] = msgpack.ExtType(1, packed)
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb(tree))


def _keras(folder: Path, state: State) -> None:
    """As TFBertModel saves it."""
    with h5py.File(folder / "tf_model.h5", "w") as file:
        names = []
        group = file.create_group("bert")
        for name, array in state.items():
            *path, last = re.sub(r"layer\.(\d+)", r"layer_#_\1", name).split(".")
            if "LayerNorm" in name:
                last = {"weight": "gamma", "bias": "beta"}[last]
            elif last == "weight":
                last = "kernel" if LINEAR.fullmatch(name) else "embeddings"
            names.append("/".join(["tf_bert_model", "bert", *path, f"{last}:0"]).replace("#", "."))
            group.create_dataset(names[-1], data=_turned(name, array))
        group.attrs["weight_names"] = [each.encode() for each in names]
        file.attrs["layer_names"] = [b"bert"]


def _onnx(folder: Path, state: State) -> None:
    """As torch.onnx exports it: a linear layer is a product with its folded transpose, which has a made-up name."""
    nodes, tensors = [], []
    for at, (name, array) in enumerate(state.items()):
        linear = LINEAR.fullmatch(name)
        stored = f"onnx::MatMul_{at}" if linear else name
        tensors.append(numpy_helper.from_array(_turned(name, array), stored))
        if linear:
            scope = "/" + re.sub(r"layer/(\d+)", r"layer.\1", name.removesuffix(".weight").replace(".", "/"))
            nodes.append(helper.make_node("MatMul", [f"x{at}", stored], [f"y{at}"], f"{scope}/MatMul"))
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)), folder / "model.onnx")


def _gguf_f32(folder: Path, state: State) -> None:
    write_gguf(folder / "model-F32.gguf", state, gguf.GGMLQuantizationType.F32)


def _gguf_f16(folder: Path, state: State) -> None:
    write_gguf(folder / "model-F16.gguf", state, gguf.GGMLQuantizationType.F16)


def write_gguf(path: Path, state: State, kind: gguf.GGMLQuantizationType) -> None:
    """A BERT as convert_hf_to_gguf.py and llama-quantize write it: vectors stay float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 64)
    writer = gguf.GGUFWriter(path, "bert")
    for name, array in state.items():
        known = table.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, name
        whole = array.ndim == 1 or kind == gguf.GGMLQuantizationType.F32
        writer.add_tensor(known, array if whole else quantize(array, kind), raw_dtype=None if whole else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
