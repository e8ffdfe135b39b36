"""Quantised safetensors: packed by slow definitions of each published layout, and read as the weight they stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from crawl.folder import FolderSource
from crawl.formats.entry import TensorEntry
from crawl.model_sketch import sketch_model
from crawl.readers import Readers
from crawl.shards import model_weights
from crawl.source import FileRef
from store.dtypes import DTYPES
from tests.source_files import model

Array = NDArray[Any]
BNB_NF4 = np.array(
    [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0, 0.0795803, 0.1609302, 0.2461123,
     0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0], np.float32
)  # fmt: skip


@dataclass
class Loaded:
    entries: dict[str, tuple[FileRef, TensorEntry]]
    readers: Readers
    left_out: dict[str, str]

    def __getitem__(self, name: str) -> Array:
        file, entry = self.entries[name]
        raw = bytearray(entry.elements * DTYPES[entry.dtype].itemsize)
        entry.opened(self.readers, file)(0, memoryview(raw))
        return np.frombuffer(raw, DTYPES[entry.dtype]).reshape(entry.shape)


@contextmanager
def loaded(root: Path, tensors: Mapping[str, Array], config: object = None) -> Iterator[Loaded]:
    folder = root / "m"
    folder.mkdir(exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    source = FolderSource(root)
    ref = model(source, "m")
    readers = Readers(source, ref)
    left_out: dict[str, str] = {}
    found = model_weights(source, ref, None, lambda _, name, why: left_out.update({name: why.reason}), readers)
    try:
        yield Loaded({entry.name: (file, entry) for file, entry in found.tensors}, readers, left_out)
    finally:
        readers.close()


def packed_rows(values: Array, bits: int) -> Array:
    """[n, m] integers to [n * bits / 32, m] int32, one by one: the first of a run in the lowest bits."""
    pack = 32 // bits
    words = np.zeros((values.shape[0] // pack, values.shape[1]), np.uint64)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            words[i // pack, j] |= np.uint64(int(values[i, j]) << (bits * (i % pack)))
    return words.astype(np.uint32).view(np.int32)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
def test_gptq(tmp_path: Path, bits: int, ordered: bool, form: str) -> None:
    random = np.random.default_rng(bits)
    inputs, outputs, groups = 64, 32, 4
    q = random.integers(0, 1 << bits, (inputs, outputs))
    zeros = random.integers(1, 1 << bits, (groups, outputs))
    scales = random.uniform(0.01, 0.02, (groups, outputs)).astype(np.float16)
    index = np.arange(inputs) // 16 if ordered else random.permutation(np.repeat(np.arange(groups), 16))
    weight = np.empty((outputs, inputs), np.float32)
    for i in range(inputs):
        for o in range(outputs):
            weight[o, i] = (q[i, o] - zeros[index[i], o]) * np.float32(scales[index[i], o])
    stored = {
        "model.layers.0.mlp.up_proj.qweight": packed_rows(q, bits),
        "model.layers.0.mlp.up_proj.qzeros": packed_rows((zeros - (form == "gptq")).T, bits).T,
        "model.layers.0.mlp.up_proj.scales": scales,
        "model.layers.0.mlp.up_proj.bias": np.ones(outputs, np.float16),
        "model.norm.weight": np.ones(inputs, np.float16),
    }
    if not ordered:
        stored["model.layers.0.mlp.up_proj.g_idx"] = index.astype(np.int32)
    with loaded(tmp_path, stored, {"quantization_config": {"checkpoint_format": form, "bits": bits}}) as found:
        name = "model.layers.0.mlp.up_proj.weight"
        assert set(found.entries) == {name, "model.layers.0.mlp.up_proj.bias", "model.norm.weight"}
        assert (found.entries[name][1].stored, found.entries[name][1].shape) == (f"gptq{bits}", (outputs, inputs))
        np.testing.assert_array_equal(found[name], weight)


def test_awq(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs, outputs, groups = 32, 64, 2
    q, zeros = random.integers(0, 16, (inputs, outputs)), random.integers(0, 16, (groups, outputs))
    scales = random.uniform(0.01, 0.02, (groups, outputs)).astype(np.float16)

    def packed(values: Array) -> Array:
        """AutoAWQ: nibble j of a word holds the column order_map[j] of its eight."""
        words = np.zeros((values.shape[0], values.shape[1] // 8), np.uint64)
        for word in range(words.shape[1]):
            for j, column in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
                words[:, word] |= values[:, 8 * word + column].astype(np.uint64) << np.uint64(4 * j)
        return words.astype(np.uint32).view(np.int32)

    weight = ((q - np.repeat(zeros, 16, 0)) * np.repeat(scales.astype(np.float32), 16, 0)).T.astype(np.float32)
    with loaded(tmp_path, {"l.qweight": packed(q), "l.qzeros": packed(zeros), "l.scales": scales}) as found:
        assert set(found.entries) == {"l.weight"}
        assert found.entries["l.weight"][1].stored == "awq4"
        np.testing.assert_array_equal(found["l.weight"], weight)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(24, 32), (3, 5)])
def test_bitsandbytes_of_four_bits(tmp_path: Path, nested: bool, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    elements, block, outer = shape[0] * shape[1], 16, 8
    codes = random.integers(0, 16, elements + elements % 2)
    blocks = -(-elements // block)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "float16", "shape": list(shape)}
    tensors: dict[str, Array] = {"l.weight.quant_map": BNB_NF4}
    if nested:
        table = np.linspace(-1, 1, 256).astype(np.float32)
        inner, scale = random.integers(0, 256, blocks), random.uniform(0.1, 1, -(-blocks // outer)).astype(np.float32)
        state |= {"nested_blocksize": outer, "nested_dtype": "float32", "nested_offset": 0.25}
        tensors |= {"l.weight.absmax": inner.astype(np.uint8), "l.weight.nested_absmax": scale,
                    "l.weight.nested_quant_map": table}  # fmt: skip
        absmax = np.array([table[inner[b]] * scale[b // outer] + np.float32(0.25) for b in range(blocks)], np.float32)
    else:
        absmax = random.uniform(0.1, 1, blocks).astype(np.float32)
        tensors["l.weight.absmax"] = absmax
    weight = np.array([BNB_NF4[codes[i]] * absmax[i // block] for i in range(elements)], np.float32).reshape(shape)
    tensors["l.weight"] = (codes[::2] << 4 | codes[1::2]).astype(np.uint8)[:, None]
    tensors["l.weight.quant_state.bitsandbytes__nf4"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    tensors["l.bias"] = np.ones(shape[0], np.float32)
    with loaded(tmp_path, tensors) as found:
        assert set(found.entries) == {"l.weight", "l.bias"}
        assert found.entries["l.weight"][1].stored == "nf4"
        np.testing.assert_array_equal(found["l.weight"], weight)


def test_int8_and_float8_with_scales(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    q = random.integers(-127, 128, (6, 10)).astype(np.int8)
    row = random.uniform(1, 2, 6).astype(np.float32)
    f8 = random.normal(size=(300, 200)).astype(ml_dtypes.float8_e4m3fn)
    blocks = random.uniform(1, 2, (3, 2)).astype(np.float32)
    tensors: dict[str, Array] = {"a.weight": q, "a.SCB": row, "a.weight_format": np.zeros((), np.uint8),
               "b.weight": q, "b.weight_scale": row[:, None]}  # fmt: skip
    with loaded(tmp_path, tensors) as found:
        assert set(found.entries) == {"a.weight", "b.weight"}
        np.testing.assert_allclose(found["a.weight"], q * (row[:, None] / 127), rtol=1e-6)
        np.testing.assert_array_equal(found["b.weight"], q * row[:, None])
    folder = tmp_path / "m"
    stored = torch.from_numpy(f8.view(np.uint8)).view(torch.float8_e4m3fn)
    save_torch({"c.weight": stored, "c.weight_scale_inv": torch.from_numpy(blocks)}, folder / "model.safetensors")
    source = FolderSource(tmp_path)
    ref = model(source, "m")
    readers = Readers(source, ref)
    ((file, entry),) = model_weights(source, ref, None, None, readers).tensors
    found = Loaded({entry.name: (file, entry)}, readers, {})
    expected = f8.astype(np.float32) * np.repeat(np.repeat(blocks, 128, 0), 128, 1)[:300, :200]
    np.testing.assert_array_equal(found["c.weight"], expected)
    readers.close()


@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors_in_int32(tmp_path: Path, bits: int) -> None:
    random = np.random.default_rng(0)
    q = random.integers(0, 1 << bits, (6, 64))
    scale = random.uniform(0.1, 0.2, (6, 4)).astype(np.float32)
    weight = ((q - (1 << (bits - 1))) * np.repeat(scale, 16, 1)).astype(np.float32)
    tensors: dict[str, Array] = {
        "l.weight_packed": packed_rows(q.T, bits).T, "l.weight_scale": scale,
        "l.weight_shape": np.array([6, 64], np.int64), "n.weight": np.ones(3, np.float32),
    }  # fmt: skip
    with loaded(tmp_path, tensors) as found:
        assert set(found.entries) == {"l.weight", "n.weight"}
        np.testing.assert_allclose(found["l.weight"], weight, rtol=1e-6)
    with loaded(tmp_path, {**tensors, "l.weight_shape": np.array([6, -64], np.int64)}) as found:
        assert set(found.entries) == {"n.weight"}


@pytest.mark.parametrize(
    "change",
    [
        {"l.scales": np.ones((4, 31), np.float16)},
        {"l.qzeros": np.ones((3, 4), np.int32)},
        {"l.qzeros": np.ones((4, 4), np.float32)},
        {"l.qweight": np.ones((8, 5), np.int32)},
        {"l.qweight": np.ones(8, np.int32)},
        {"l.g_idx": np.ones(3, np.int32)},
        {"l.scales": np.ones((0, 32), np.float16)},
    ],
)
def test_parts_that_do_not_fit_cost_their_tensor(tmp_path: Path, change: dict[str, Array]) -> None:
    good: dict[str, Array] = {"l.qweight": np.ones((8, 32), np.int32), "l.qzeros": np.ones((4, 4), np.int32),
            "l.scales": np.ones((4, 32), np.float16), "n.weight": np.ones(3, np.float32)}  # fmt: skip
    with loaded(tmp_path, good) as found:
        assert set(found.entries) == {"l.weight", "n.weight"}
    with loaded(tmp_path, good | change) as found:
        assert set(found.entries) == {"n.weight"}
        assert found.left_out == {"l.qweight": "bad_quantization"}


def test_an_index_out_of_its_groups_costs_its_tensor(tmp_path: Path) -> None:
    """It is found while the values are read."""
    parts: dict[str, Array] = {
        f"layers.{at}.qweight": np.arange(8 * 32, dtype=np.int32).reshape(8, 32) for at in range(2)
    }
    for at in range(2):
        parts |= {f"layers.{at}.qzeros": np.ones((4, 4), np.int32), f"layers.{at}.scales": np.ones((4, 32), np.float16)}
    with loaded(tmp_path, parts | {"layers.1.g_idx": np.full(64, 9, np.int32)}):
        source = FolderSource(tmp_path)
        found = sketch_model(source, model(source, "m"), budget=0)
    assert [sketch.source_name for sketch in found.model.sketches] == ["layers.0.weight"]
    assert [row.reason for row in found.skipped] == ["bad_quantization"]


@pytest.mark.parametrize(
    "state",
    [b"", b"[]", b"{", b"{}", b'{"shape":[8,8],"blocksize":0}', b'{"shape":[9,9],"blocksize":16}',
     b'{"shape":[8,8],"blocksize":1e300}', b'{"shape":[1152921504606846976,8],"blocksize":16}', b"[" * 5000,
     b'{"shape":[8,8],"blocksize":16,"nested_blocksize":4,"nested_offset":1' + b"0" * 400 + b"}"],
)  # fmt: skip
def test_a_state_that_does_not_fit_costs_its_tensor(tmp_path: Path, state: bytes) -> None:
    tensors: dict[str, Array] = {"l.weight": np.zeros((32, 1), np.uint8), "l.weight.absmax": np.zeros(4, np.uint8),
               "l.weight.nested_absmax": np.ones(1, np.float32), "l.weight.nested_quant_map": np.ones(256, np.float32),
               "l.weight.quant_map": BNB_NF4, "n.weight": np.ones(3, np.float32),
               "l.weight.quant_state.bitsandbytes__nf4": np.frombuffer(state, np.uint8)}  # fmt: skip
    with loaded(tmp_path, tensors) as found:
        assert set(found.entries) == {"n.weight"}
        assert found.left_out == {"l.weight": "bad_quantization"}
