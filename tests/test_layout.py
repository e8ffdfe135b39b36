"""Which files are a model's weights, and which names can be stored and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.layout import is_weight, weight_files
from crawl.names import escaped, is_plain, is_plain_path, is_repo_name
from store.errors import SkipError
from tests.source_files import reason_of


def groups(*paths: str) -> dict[str, list[str]]:
    return {g.stem: [g.index] if g.index else list(g.files) for g in weight_files(paths)}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["model.safetensors"], {"model": ["model.safetensors"]}),
        (["model.safetensors", "model.fp16.safetensors", "x.safetensors"], {"model": ["model.safetensors"]}),
        (["weights.safetensors", "README.md", "x.bin"], {"weights": ["weights.safetensors"]}),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            {"model": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]},
        ),
        (
            ["model-00001-of-00001.safetensors", "model.safetensors.index.json", "consolidated.safetensors"],
            {"model": ["model.safetensors.index.json"]},
        ),
        (["x.safetensors.index.json", "a.safetensors", "b.safetensors"], {"x": ["x.safetensors.index.json"]}),
        (
            ["a.safetensors", "b-00001-of-00001.safetensors", "adapter_model.safetensors"],
            {"a": ["a.safetensors"], "b": ["b-00001-of-00001.safetensors"]},
        ),
        (["net.safetensors", "net.fp16.safetensors"], {"net": ["net.safetensors"]}),
        (["n.one.safetensors", "n.safetensors"], {"n": ["n.safetensors"], "n.one": ["n.one.safetensors"]}),
        (["model.fp16.safetensors"], {"model.fp16": ["model.fp16.safetensors"]}),
        (
            ["m-00001-of-00001.safetensors", "m-00001-of-00001.fp16.safetensors"],
            {"m": ["m-00001-of-00001.safetensors"]},
        ),
        (
            ["m-00001-of-00001.safetensors", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
            {
                "m-of-00001": ["m-00001-of-00001.safetensors"],
                "m-of-00002": ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
            },
        ),
        (["a/u.safetensors", "b/v.safetensors"], {"a/u": ["a/u.safetensors"], "b/v": ["b/v.safetensors"]}),
        (["model.safetensors", "onnx/model.onnx", "sub/model.safetensors"], {"model": ["model.safetensors"]}),
        (["x.bin", "sub/model.safetensors"], {"sub/model": ["sub/model.safetensors"]}),
        (["pytorch_model.bin", "2_Dense/model.safetensors"], {"pytorch_model": ["pytorch_model.bin"]}),
        (["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"], {"pytorch_model": ["pytorch_model.bin"]}),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
            {"pytorch_model": ["pytorch_model.bin.index.json"]},
        ),
        (["pytorch_model.bin", "pytorch_model.fp16.bin", "optimizer.pt"], {"pytorch_model": ["pytorch_model.bin"]}),
        (["openvino_model.bin", "openvino_model.xml", "model.onnx"], {"model": ["model.onnx"]}),
        (["onnx/model.onnx", "onnx/model_quantized.onnx"], {"onnx/model": ["onnx/model.onnx"]}),
        (["a_fp16.onnx", "a.onnx"], {"a": ["a.onnx"]}),
        (["m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-Q2_K.gguf", "mmproj-m-f16.gguf"], {"m-Q8_0": ["m-Q8_0.gguf"]}),
        (["m.Q4_0.gguf", "m.F16.gguf", "m.BF16.gguf"], {"m.BF16": ["m.BF16.gguf"]}),
        (["a-Q4_0.gguf", "b-Q4_0.gguf"], {"a-Q4_0": ["a-Q4_0.gguf"], "b-Q4_0": ["b-Q4_0.gguf"]}),
        (
            ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "m-Q4_0.gguf"],
            {"m-Q8_0": ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]},
        ),
        (["mmproj-a.gguf"], {"mmproj-a": ["mmproj-a.gguf"]}),
        (
            ["model_index.json", "sd.safetensors", "unet/u.safetensors", "vae/v.safetensors"],
            {"unet/u": ["unet/u.safetensors"]},
        ),
        (
            ["0_Transformer/pytorch_model.bin", "2_Dense/pytorch_model.bin"],
            {"0_Transformer/pytorch_model": ["0_Transformer/pytorch_model.bin"]},
        ),
        (["adapter_model.safetensors", "adapter_config.json"], {"adapter_model": ["adapter_model.safetensors"]}),
        (["adapter_model.safetensors", "adapter_model.bin"], {"adapter_model": ["adapter_model.safetensors"]}),
        (["adapter_model.bin", "checkpoint-5/adapter_model.bin"], {"adapter_model": ["adapter_model.bin"]}),
    ],
)
def test_the_weights_among_the_files(paths: list[str], expected: dict[str, list[str]]) -> None:
    assert groups(*paths) == expected
    assert groups(*reversed(paths)) == expected


def test_shards_that_the_names_promise_are_named_when_missing() -> None:
    (group,) = weight_files(["m-00002-of-00003.safetensors"])
    assert group.missing == ("m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors")
    (group,) = weight_files(["m-00000-of-00002.safetensors", "m-00001-of-00002.safetensors"])
    assert group.missing == ()
    (group,) = weight_files(["m-00001-of-99999.safetensors"])
    assert len(group.missing) == 16


@pytest.mark.parametrize(
    ("paths", "reason", "named"),
    [
        ([], "no_weights", "no files"),
        (["README.md", "config.json", "training_args.bin", "tokenizer.json"], "no_weights", "README.md"),
        (["model.pb", "README.md"], "unsupported_format", "model.pb"),
        *(([f"m.{kind}"], "unsupported_format", ".safetensors") for kind in ("ot", "tflite", "nemo", "pkl")),
        (["optimizer.bin", "rng_state_0.pth", "imatrix.gguf"], "no_weights", "imatrix"),
    ],
)
def test_files_without_readable_weights(paths: list[str], reason: str, named: str) -> None:
    with pytest.raises(SkipError, match=named) as caught:
        weight_files(paths)
    assert caught.value.reason == reason


@given(
    st.lists(
        st.sampled_from(["a", "b", "model", "m.fp16", "m-00001-of-00002", "m-00002-of-00002", "s/x", "adapter_model"]),
        max_size=6,
    )
)
def test_the_rule_uses_each_file_once_at_most(stems: list[str]) -> None:
    paths = [f"{stem}.safetensors" for stem in stems]
    if not paths:
        assert reason_of(lambda: weight_files(paths)) == "no_weights"
        return
    used = [path for group in weight_files(paths) for path in group.files]
    assert len(used) == len(set(used)) > 0
    assert set(used) <= set(paths)
    assert all(is_weight(path) for path in used)


def test_names_that_can_be_stored_and_shown() -> None:
    for good in ("a", "a b", "é", "模型", "a/b-c_d.e"):
        assert is_plain(good)
        assert escaped(good) == good
    for bad in (
        "",
        "a\nb",
        "a\x1b[31m",
        "\udcff",
        "\ud800",
        "a\u2028b",
        "\u202egnp.exe",
        "x" * 1025,
        "a\x00",
        "\x9b",
    ):
        assert not is_plain(bad)
    assert escaped("a\x1b[2J\udcff\ud800\n\u202e") == "a\\x1b[2J\\xff\\ud800\\n\\u202e"
    assert len(escaped("x" * 10_000)) == 200
    for bad in ("../a", "/a", "a//b", "a/./b", "a/", "a\\b", "..", ""):
        assert not is_plain_path(bad)
    for repo in ("gpt2", "org/name", "a/b.c-d_e", "a" * 96):
        assert is_repo_name(repo)
    for bad in (
        "",
        "a/b/c",
        "a--b",
        "a..b",
        "../a",
        "-a",
        "a-",
        ".a",
        "a/.b",
        "a.git",
        "a\n",
        "é",
        "a" * 97,
        "a/",
        "a./b",
    ):
        assert not is_repo_name(bad)


@given(st.text(st.characters(), max_size=300))
def test_an_escaped_name_is_plain(name: str) -> None:
    assert is_plain(escaped(name) or "x")
