"""Small good files of each format, by the libraries that write them: what fuzzing starts from."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import h5py
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import save

from scripts.every_format import small_bert, write_every_format

__all__ = ["seeds_of"]

_FOLDERS = {
    "safetensors": ["safetensors"],
    "torch": ["torch", "torch-old"],
    "flax": ["flax"],
    "keras": ["keras"],
    "onnx": ["onnx"],
    "gguf": ["gguf-f32", "gguf-f16"],
}


def seeds_of(kind: str) -> list[bytes]:
    """Good files for one parser of scripts/fuzz.py, each of some kilobytes."""
    if kind == "card":
        front = "---\nbase_model:\n- a/b\n- c/d\nlicense: mit\ntags: [x, y]\ndatasets: {a: b}\n---\ntext\n"
        return [front.encode(), json.dumps({"_name_or_path": "a/b", "model_type": "bert"}).encode()]
    if kind == "index":
        return [
            json.dumps({"metadata": {"total_size": 1}, "weight_map": {f"t{i}": "m.safetensors"}}).encode() for i in "ab"
        ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_every_format(root / "zoo", small_bert(2, 4))
        found = [next((root / "zoo" / name).iterdir()).read_bytes() for name in _FOLDERS[kind]]
        return found + (_MORE[kind](root) if kind in _MORE else [])


def _safetensors(root: Path) -> list[bytes]:
    random = np.random.default_rng(0)
    word = random.integers(0, 2**31, (8, 32)).astype(np.int32)
    half = random.normal(size=(4, 32)).astype(np.float16)
    zeros, table = word[:4, :4].copy(), np.linspace(-1, 1, 16).astype(np.float32)
    gptq: dict[str, Any] = {
        "l.qweight": word,
        "l.qzeros": zeros,
        "l.scales": half,
        "l.g_idx": np.repeat(np.arange(4), 16).astype(np.int32),
    }
    awq: dict[str, Any] = {"l.qweight": word[:, :4].copy(), "l.qzeros": zeros, "l.scales": half}
    state = json.dumps(
        {"shape": [8, 8], "blocksize": 16, "quant_type": "nf4", "nested_blocksize": 4, "nested_offset": 0.5}
    )
    nested: dict[str, Any] = {"l.weight": np.zeros((32, 1), np.uint8), "l.weight.absmax": np.zeros(4, np.uint8),
              "l.weight.nested_absmax": table[:1].copy(), "l.weight.nested_quant_map": np.zeros(256, np.float32),
              "l.weight.quant_map": table,
              "l.weight.quant_state.bitsandbytes__nf4": np.frombuffer(state.encode(), np.uint8)}  # fmt: skip
    eight: dict[str, Any] = {"l.weight": np.ones((4, 8), np.int8), "l.SCB": np.ones(4, np.float32)}
    return [save(each) for each in (gptq, awq, nested, eight)]


def _torch(root: Path) -> list[bytes]:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    view = torch.arange(40.0).reshape(2, 4, 5).permute(2, 0, 1)[::2]
    checkpoint = {"state_dict": {"v": view, "t": torch.ones(3, 5).t(), "h": torch.ones(2).half()}, "epoch": 1}
    found = []
    for what in (module, checkpoint):
        for zipped in (True, False):
            torch.save(what, root / "m", _use_new_zipfile_serialization=zipped)
            found.append((root / "m").read_bytes())
    return found


def _gguf(root: Path) -> list[bytes]:
    found = []
    for architecture in ("llama", "qwen3moe", "gemma2"):
        writer = gguf.GGUFWriter(root / "m", architecture)
        writer.add_head_count(2)
        writer.add_token_list(["a", "b"])
        writer.add_array("numbers", [1, 2, 3])
        for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.IQ2_XS):
            _, width = gguf.GGML_QUANT_SIZES[kind]
            raw = np.full((4, width), 17, np.uint8)
            writer.add_tensor(f"blk.{kind.value}.attn_q.weight", raw, raw_dtype=kind)
            writer.add_tensor(f"blk.{kind.value}.ffn_up_exps.weight", raw.reshape(2, 2, width), raw_dtype=kind)
        writer.add_tensor("blk.0.ffn_norm.weight", np.ones(8, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found.append((root / "m").read_bytes())
    return found


def _onnx(root: Path) -> list[bytes]:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"], "/layer.0/query/MatMul"),
        helper.make_node(
            "MatMulInteger", ["y", "k_quantized", "a", "k_zero_point"], ["i"], "/layer.0/key/MatMul_quant"
        ),
        helper.make_node("Gemm", ["i", "g", "head.bias"], ["o"], "gemm", transB=1),
    ]
    square = np.arange(16, dtype=np.int8).reshape(4, 4)
    arrays: dict[str, Any] = {
        "q": square, "s": np.ones(4, np.float32), "z": np.zeros(4, np.int8), "k_quantized": square,
        "k_scale": np.float32(2) * np.ones(()), "k_zero_point": np.zeros((), np.int8),
        "g": square.astype(np.float32), "head.bias": np.ones(4, np.float32),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    tensors.append(helper.make_tensor("half", 10, [2], [1.0, 2.0]))
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))
    onnx.save(
        model, root / "e.onnx", save_as_external_data=True, location="m", size_threshold=0, convert_attribute=True
    )
    return [model.SerializeToString(), (root / "e.onnx").read_bytes()]


def _keras(root: Path) -> list[bytes]:
    with h5py.File(root / "m", "w") as file:
        file.attrs["layer_names"] = ["d"]
        group = file.create_group("d")
        group.attrs["weight_names"] = ["d/kernel:0", "d/bias:0"]
        group.create_dataset("d/kernel:0", data=np.ones((4, 4), np.float32))
        group.create_dataset("d/bias:0", data=np.ones(64, np.float32), chunks=(8,), compression="gzip")
    with h5py.File(root / "new", "w") as file:
        for layer in ("dense", "rnn/cell"):
            group = file.create_group(f"layers/{layer}/vars")
            group.attrs["name"] = layer
            group.create_dataset("0", data=np.ones((4, 4), np.float32))
    with zipfile.ZipFile(root / "zip", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(root / "new", "model.weights.h5")
    return [(root / name).read_bytes() for name in ("m", "new", "zip")]


_MORE: Final[Mapping[str, Callable[[Path], list[bytes]]]] = {
    "safetensors": _safetensors,
    "torch": _torch,
    "gguf": _gguf,
    "onnx": _onnx,
    "keras": _keras,
}
