"""llama.cpp's tensor names, and the names that the same tensors have in the models they were converted from.

From the tables of gguf-py (`constants.py`, `tensor_mapping.py`) and the converters of llama.cpp. What is in no table
keeps its GGUF name: such a model compares with other GGUF files, and with nothing wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["PERMUTED", "SHIFTED_NORMS", "expert_names", "is_transposed", "source_name"]

PERMUTED: Final = frozenset(
    ("llama", "granite", "granitemoe", "deci", "olmo", "minicpm", "baichuan", "xverse", "arcee", "smollm3")
)
"""Architectures whose converter reorders the rows of q and k within each head, for interleaved rotary embeddings."""

SHIFTED_NORMS: Final = frozenset(("gemma", "gemma2", "gemma3"))
"""Architectures whose norms are stored with 1 added."""

_LLAMA: Final[Mapping[str, str]] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "rope_freqs": "model.rotary_emb.inv_freq",
    "blk.attn_norm": "input_layernorm",
    "blk.attn_q": "self_attn.q_proj",
    "blk.attn_k": "self_attn.k_proj",
    "blk.attn_v": "self_attn.v_proj",
    "blk.attn_qkv": "self_attn.qkv_proj",
    "blk.attn_output": "self_attn.o_proj",
    "blk.attn_q_norm": "self_attn.q_norm",
    "blk.attn_k_norm": "self_attn.k_norm",
    "blk.attn_rot_embd": "self_attn.rotary_emb.inv_freq",
    "blk.attn_sinks": "self_attn.sinks",
    "blk.ffn_norm": "post_attention_layernorm",
    "blk.ffn_gate": "mlp.gate_proj",
    "blk.ffn_up": "mlp.up_proj",
    "blk.ffn_down": "mlp.down_proj",
    "blk.ffn_gate_inp": "mlp.gate",
    "blk.ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "blk.ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "blk.ffn_up_shexp": "mlp.shared_expert.up_proj",
    "blk.ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_GEMMA: Final = {
    **_LLAMA,
    "blk.post_attention_norm": "post_attention_layernorm",
    "blk.ffn_norm": "pre_feedforward_layernorm",
    "blk.post_ffw_norm": "post_feedforward_layernorm",
}
_POST_NORM: Final = {
    **_LLAMA,
    "blk.post_attention_norm": "post_attention_layernorm",
    "blk.post_ffw_norm": "post_feedforward_layernorm",
}
_BERT: Final[Mapping[str, str]] = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.attn_q": "attention.self.query",
    "blk.attn_k": "attention.self.key",
    "blk.attn_v": "attention.self.value",
    "blk.attn_output": "attention.output.dense",
    "blk.attn_output_norm": "attention.output.LayerNorm",
    "blk.ffn_up": "intermediate.dense",
    "blk.ffn_down": "output.dense",
    "blk.layer_output_norm": "output.LayerNorm",
}
_GPT2: Final[Mapping[str, str]] = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.attn_norm": "ln_1",
    "blk.attn_qkv": "attn.c_attn",
    "blk.attn_output": "attn.c_proj",
    "blk.ffn_norm": "ln_2",
    "blk.ffn_up": "mlp.c_fc",
    "blk.ffn_down": "mlp.c_proj",
}
_TABLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    **dict.fromkeys(
        (
            *("llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "stablelm", "command-r", "cohere2", "deepseek"),
            *("granite", "granitemoe", "deci", "olmo", "minicpm", "baichuan", "xverse", "arcee", "smollm3", "exaone4"),
        ),
        ("model.layers", _LLAMA),
    ),
    **dict.fromkeys(("gemma", "gemma2", "gemma3"), ("model.layers", _GEMMA)),
    "olmo2": ("model.layers", _POST_NORM),
    "phi3": ("model.layers", {**_LLAMA, "blk.ffn_up": "mlp.gate_up_proj"}),
    "starcoder2": ("model.layers", {**_LLAMA, "blk.ffn_up": "mlp.c_fc", "blk.ffn_down": "mlp.c_proj"}),
    "bert": ("encoder.layer", _BERT),
    "gpt2": ("transformer.h", _GPT2),
}
_EXPERTS: Final = re.compile(r"blk\.(\d{1,6})\.ffn_(gate|up|down)_exps\.weight", re.ASCII)
_BLOCK: Final = re.compile(r"blk\.(\d{1,6})\.(\w+)", re.ASCII)


def source_name(architecture: str, name: str) -> str:
    """What the tensor `name` of a GGUF file is called in the model that it was converted from."""
    stem, dot, end = name.rpartition(".")
    if architecture not in _TABLES or not dot or end not in ("weight", "bias"):
        return name
    stack, table = _TABLES[architecture]
    if architecture == "gemma" and stem.endswith(".ffn_norm"):
        # The first one has two norms a block, as Llama has.
        table = _LLAMA
    block = _BLOCK.fullmatch(stem)
    known = table.get(f"blk.{block[2]}" if block else stem)
    if known is None:
        return name
    if known.endswith("inv_freq"):
        return known
    if architecture == "llama" and block and block[2] == "ffn_gate_inp":
        known = "block_sparse_moe.gate"
    return f"{stack}.{block[1]}.{known}.{end}" if block else f"{known}.{end}"


def expert_names(architecture: str, name: str, experts: int) -> list[str] | None:
    """The names of the experts that are stacked in the tensor `name`; None where it is no stack of experts."""
    match = _EXPERTS.fullmatch(name)
    if match is None or architecture not in _TABLES:
        return None
    layer, kind = match[1], match[2]
    if architecture == "llama":
        matrix = {"gate": "w1", "up": "w3", "down": "w2"}[kind]
        return [f"model.layers.{layer}.block_sparse_moe.experts.{at}.{matrix}.weight" for at in range(experts)]
    return [f"model.layers.{layer}.mlp.experts.{at}.{kind}_proj.weight" for at in range(experts)]


def is_transposed(architecture: str, name: str) -> bool:
    """True for the matrices that the source keeps the other way round: GPT-2's convolutions of width one."""
    return architecture == "gpt2" and bool(
        re.fullmatch(r"blk\.\d+\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", name)
    )
