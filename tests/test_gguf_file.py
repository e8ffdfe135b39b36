"""GGUF: what gguf-py writes, as the model it was converted from has it; and what strangers write."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from crawl.architecture import architecture_key, canonical_names
from crawl.formats.gguf_names import source_name
from store.errors import SkipError
from tests.entry_arrays import FileEntries, entries_of
from tests.source_files import reason_of

Array = NDArray[Any]
Kind = gguf.GGMLQuantizationType
HEADS, GROUPED, WIDTH = 4, 2, 256


def permuted(weights: Array, heads: int) -> Array:
    """The definition, row by row: row a * d/2 + b of a head, a < 2, goes to 2 b + a."""
    d = weights.shape[0] // heads
    result = np.empty_like(weights)
    for head in range(heads):
        for a in range(2):
            for b in range(d // 2):
                result[head * d + 2 * b + a] = weights[head * d + a * d // 2 + b]
    return result


def llama(layers: int = 2) -> dict[str, Array]:
    """A tiny Llama under the names of transformers."""
    random = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (64, WIDTH), "model.norm.weight": (WIDTH,), "lm_head.weight": (64, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        grouped = WIDTH // HEADS * GROUPED
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{at}.self_attn.k_proj.weight": (grouped, WIDTH),
            f"{at}.self_attn.v_proj.weight": (grouped, WIDTH),
            f"{at}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{at}.mlp.gate_proj.weight": (512, WIDTH),
            f"{at}.mlp.up_proj.weight": (512, WIDTH),
            f"{at}.mlp.down_proj.weight": (WIDTH, 512),
            f"{at}.input_layernorm.weight": (WIDTH,),
            f"{at}.post_attention_layernorm.weight": (WIDTH,),
        }
    return {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}


def converted(path: Path, model: dict[str, Array], kind: Kind, architecture: str = "llama") -> FileEntries:
    """What convert_hf_to_gguf.py makes of a Llama: names by gguf-py's own table, q and k permuted."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPED)
    writer.add_token_list([f"token{i}" for i in range(3000)])
    writer.add_array("numbers", list(range(3000)))
    writer.add_string("long", "x" * 3000)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 8)
    for name, array in model.items():
        known = table.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            array = permuted(array, HEADS if "q_proj" in name else GROUPED)
        if array.ndim == 1 or kind == Kind.F32:
            writer.add_tensor(known, array)
        elif kind == Kind.F16:
            writer.add_tensor(known, array.astype(np.float16))
        else:
            writer.add_tensor(known, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return entries_of(path, "gguf")


def test_a_converted_model_has_its_own_names_shapes_and_values(tmp_path: Path) -> None:
    model = llama()
    found = converted(tmp_path / "m.gguf", model, Kind.F32)
    assert set(found.entries) == set(model)
    for name, array in model.items():
        np.testing.assert_array_equal(found.array(name), array, err_msg=name)
    halves = converted(tmp_path / "h.gguf", model, Kind.F16)
    for name, array in model.items():
        assert halves.entries[name].dtype == ("F16" if array.ndim == 2 else "F32")
        np.testing.assert_array_equal(halves.array(name), array.astype(np.float16 if array.ndim == 2 else np.float32))
    shapes = {name: entry.shape for name, entry in halves.entries.items()}
    assert canonical_names(shapes)["model.layers.1.self_attn.q_proj.weight"] == "layers.1.self_attn.q_proj.weight"
    assert len(architecture_key({canonical_names(shapes)[name]: shape for name, shape in shapes.items()})) == 16


def test_only_architectures_that_permute_are_unpermuted(tmp_path: Path) -> None:
    model = llama(1)
    found = converted(tmp_path / "m.gguf", model, Kind.F32, "qwen2")
    for name, array in model.items():
        np.testing.assert_array_equal(found.array(name), array, err_msg=name)


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q5_1, Kind.BF16, Kind.TQ2_0])
def test_a_quantised_model_is_near_its_source(tmp_path: Path, kind: Kind) -> None:
    model = llama(1)
    found = converted(tmp_path / "m.gguf", model, kind)
    for name, array in model.items():
        entry = found.entries[name]
        if array.ndim == 2 and kind != Kind.BF16:
            assert (entry.dtype, entry.stored) == ("F32", kind.name)
        bits = {Kind.Q8_0: 8, Kind.Q4_0: 4, Kind.Q5_1: 5, Kind.BF16: 9, Kind.TQ2_0: 1}[kind]
        assert np.abs(found.array(name).astype(np.float32) - array).max() <= 0.1 * 2.0 ** (2 - bits)
        part = found.array(name, 5, array.size - 3).astype(np.float32)
        np.testing.assert_array_equal(part, found.array(name).astype(np.float32).reshape(-1)[5:-3])


READ = [
    kind for kind in Kind
    if kind not in (Kind.F32, Kind.F16, Kind.F64, Kind.I8, Kind.I16, Kind.I32, Kind.I64, Kind.Q8_1, Kind.Q8_K)
    and kind.name != "Q1_0"
]  # fmt: skip


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_every_type_reads_as_gguf_takes_it_apart(tmp_path: Path, kind: Kind) -> None:
    block, width = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(1).integers(0, 60, (6, 4 * width), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "something")
    writer.add_tensor("blk.0.odd", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = entries_of(tmp_path / "m.gguf", "gguf")
    assert found.entries["blk.0.odd"].shape == (6, 4 * block)
    with np.errstate(all="ignore"):
        expected = dequantize(raw, kind)
    np.testing.assert_array_equal(found.array("blk.0.odd").astype(np.float32), expected)


def test_stacked_experts_come_apart(tmp_path: Path) -> None:
    experts = np.random.default_rng(0).normal(size=(4, 32, 64)).astype(np.float32)
    for architecture, name in (("qwen3moe", "mlp.experts.{}.gate_proj"), ("llama", "block_sparse_moe.experts.{}.w1")):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", architecture)
        writer.add_tensor("blk.3.ffn_gate_exps.weight", quantize(experts, Kind.Q8_0), raw_dtype=Kind.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found = entries_of(tmp_path / "m.gguf", "gguf")
        assert list(found.entries) == [f"model.layers.3.{name.format(at)}.weight" for at in range(4)]
        for at, entry in enumerate(found.entries):
            assert np.abs(found.array(entry) - experts[at]).max() < 0.02


def test_gpt2_and_bert_have_their_own_names_and_gemma_its_norms(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for architecture, name, expected, values in (
        ("gpt2", "blk.0.attn_qkv.weight", "transformer.h.0.attn.c_attn.weight", array.T),
        ("gpt2", "token_embd.weight", "transformer.wte.weight", array),
        ("bert", "blk.5.attn_q.weight", "encoder.layer.5.attention.self.query.weight", array),
        ("gemma", "blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight", array - 1),
        ("gemma2", "blk.1.ffn_norm.weight", "model.layers.1.pre_feedforward_layernorm.weight", array - 1),
        ("unheard-of", "blk.0.attn_q.weight", "blk.0.attn_q.weight", array),
    ):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", architecture)
        writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        np.testing.assert_array_equal(entries_of(tmp_path / "m.gguf", "gguf").array(expected), values)


def test_names_agree_with_the_table_of_gguf() -> None:
    """The definition: gguf-py maps each name that is given back to the one that it was given for."""
    checked = 0
    for architecture in ("llama", "qwen3", "gemma2", "phi3", "bert", "gpt2", "olmo2", "starcoder2"):
        kind = gguf.MODEL_ARCH[architecture.upper()]
        table = gguf.get_tensor_name_map(kind, 2)
        for tensor in gguf.MODEL_TENSORS[kind]:
            name = gguf.TENSOR_NAMES[tensor].format(bid=1) + ".weight"
            found = source_name(architecture, name)
            if found != name and "inv_freq" not in found:
                assert table.get_name(found, try_suffixes=(".weight",)) == name, (architecture, name, found)
                checked += 1
    assert checked > 70


def header(tensors: int, pairs: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def info(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty_file"),
    "not GGUF": (b"GGML" + bytes(100), "bad_header"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
    "version 1": (header(0, 0, version=1), "unsupported_format"),
    "big-endian": (header(0, 0, version=3 << 24), "unsupported_format"),
    "10^18 tensors": (header(10**18, 0), "bad_header"),
    "10^18 keys": (header(0, 10**18), "bad_header"),
    "key of 2^63 bytes": (header(0, 1, struct.pack("<Q", 2**63) + bytes(64)), "bad_header"),
    "string of 2^62 bytes": (header(0, 1, text(b"k") + struct.pack("<IQ", 8, 2**62)), "truncated"),
    "array of 2^60 numbers": (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 4, 2**60)), "truncated"),
    "array of 2^60 strings": (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 8, 2**60) + bytes(80)), "truncated"),
    "nested arrays": (header(0, 1, text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9), "bad_header"),
    "unknown type": (header(0, 1, text(b"k") + struct.pack("<I", 99) + bytes(20)), "bad_header"),
    "alignment of 0": (header(0, 1, text(b"general.alignment") + struct.pack("<II", 4, 0)), "bad_header"),
    "60 axes": (header(1, 0, text(b"t") + struct.pack("<I", 60) + bytes(600)), "bad_header"),
    "tensor beyond the file": (header(1, 0, info(b"t", (2**40,))), "truncated"),
    "offset beyond the file": (header(1, 0, info(b"t", (2,), offset=2**63)), "truncated"),
    "product that wraps": (header(1, 0, info(b"t", (2**62, 2**62, 2))), "truncated"),
    "stacks of experts without end": (
        header(
            50,
            1,
            text(b"general.architecture")
            + struct.pack("<I", 8)
            + text(b"llama")
            + b"".join(info(f"blk.{at}.ffn_up_exps.weight".encode(), (1, 1, 4096)) for at in range(50))
            + bytes(20_000),
        ),
        "bad_header",
    ),
    "all tensors on the same bytes": (
        header(9, 0, b"".join(info(f"t{at}".encode(), (4096,)) for at in range(9)) + bytes(17_000)),
        "bad_header",
    ),
    "the same name twice": (header(2, 0, info(b"t", (2,)) * 2 + bytes(64)), "bad_header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_skipped_with_a_reason(tmp_path: Path, case: str) -> None:
    content, reason = HOSTILE[case]
    (tmp_path / "m.gguf").write_bytes(content)
    assert reason_of(lambda: entries_of(tmp_path / "m.gguf", "gguf")) == reason


def test_what_single_tensors_are_left_out_for(tmp_path: Path) -> None:
    infos = [
        info(b"a\x1b[2J", (2,)), info(b"\xff", (2,)), info(b"odd", (2,), 9), info(b"new", (2,), 9999),
        info(b"rows", (33,), 8), info(b"good", (2,)),
    ]  # fmt: skip
    (tmp_path / "m.gguf").write_bytes(header(len(infos), 0, b"".join(infos)) + bytes(64))
    found = entries_of(tmp_path / "m.gguf", "gguf")
    assert set(found.entries) == {"good"}
    assert sorted(found.left_out.values()) == ["bad_header", "bad_name", "bad_name", "unknown_dtype", "unknown_dtype"]


def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    converted(path, {"model.layers.0.self_attn.q_proj.weight": np.ones((16, 32), np.float32)}, Kind.Q8_0)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(0, len(whole), 60):
        path.write_bytes(whole[:length])
        reason_of(lambda: entries_of(path, "gguf"))
    for at in [*range(300), *random.integers(0, len(whole), 100)]:
        raw = bytearray(whole)
        raw[at] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)
        try:
            assert all(array.size for array in entries_of(path, "gguf").arrays.values())
        except SkipError:
            continue
