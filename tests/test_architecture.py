"""Canonical names and architecture keys: exports of one model meet, different models do not."""

from __future__ import annotations

from crawl.architecture import architecture_key, backbone, canonical_names, role
from tests.test_plan import bert

Shapes = dict[str, tuple[int, ...]]


def key(shapes: Shapes) -> str:
    canonical = canonical_names(shapes)
    return architecture_key({canonical[name]: shape for name, shape in shapes.items()})


def renamed(shapes: Shapes, prefix: str) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def test_wrappers_do_not_matter() -> None:
    base = bert()
    for prefix in ("module.", "model.", "_orig_mod.", "base_model.model.", "module.model."):
        assert key(renamed(base, prefix)) == key(base)
    assert key(bert(prefix="")) == key(base)
    assert key(bert(prefix="roberta.")) == key(base)


def test_heads_and_vocabulary_do_not_matter() -> None:
    base = bert()
    child = bert(vocabulary=1016) | {"classifier.weight": (7, 256), "classifier.bias": (7,)}
    masked = base | {"cls.predictions.bias": (1000,), "cls.predictions.transform.dense.weight": (256, 256)}
    assert key(base) == key(child) == key(masked) == key(bert(prefix="") | {"classifier.weight": (3, 256)})


def test_depth_width_and_shape_matter() -> None:
    keys = {key(bert()), key(bert(layers=5)), key(bert(width=128))}
    assert len(keys | {key({"a.weight": (3, 4)}), key({"a.weight": (4, 3)})}) == 5


def test_buffers_do_not_matter() -> None:
    gpt: Shapes = {f"h.{i}.attn.c_attn.weight": (64, 192) for i in range(3)}
    masks: Shapes = {f"h.{i}.attn.bias": (1, 1, 128, 128) for i in range(3)}
    assert key(gpt) == key(gpt | masks) == key(gpt | {"position_ids": (1, 128)})


def test_order_does_not_matter() -> None:
    base = bert()
    assert key(dict(reversed(base.items()))) == key(base)


def test_names_stay_apart() -> None:
    """Two encoders under one roof share no wrapper, and no two tensors ever get one name."""
    clip: Shapes = {}
    for tower in ("text_model", "vision_model"):
        clip |= {f"{tower}.encoder.layers.{i}.mlp.weight": (32, 32) for i in range(4)}
    assert canonical_names(clip) == {name: name for name in clip}
    clash: Shapes = {"model.weight": (2, 2), "weight": (2, 2)}
    assert len(set(canonical_names(clash).values())) == 2


def test_a_model_without_blocks_is_all_but_its_head() -> None:
    shapes: Shapes = {"conv1.weight": (8, 3, 3, 3), "conv2.weight": (8, 8, 3, 3), "fc.weight": (10, 8)}
    assert backbone(shapes) == ["conv1.weight", "conv2.weight"]
    assert backbone({"fc.weight": (10, 8)}) == ["fc.weight"]


def test_what_a_model_ends_with_is_no_part_of_it_whatever_its_name() -> None:
    trunk: Shapes = {"a.weight": (64, 3, 3, 3), "a.bias": (64,), "b.weight": (64, 64, 3, 3), "c.weight": (100, 1024)}
    for outputs in (1, 2, 10):
        for name in ("dense3", "dense_1", "out"):
            assert backbone({**trunk, f"{name}.weight": (outputs, 100), f"{name}.bias": (outputs,)}) == sorted(trunk)
    assert architecture_key({**trunk, "d.weight": (2, 100)}) == architecture_key({**trunk, "e.weight": (3, 100)})


def test_what_a_model_ends_with_stays_where_it_may_be_more() -> None:
    """Recurrent layers, what is as wide as what came in, and a large part of a small model."""
    recurrent: Shapes = {"lstm.weight": (256, 300), "lstm.recurrent_kernel": (64, 256), "conv.weight": (300, 9, 3)}
    assert backbone(recurrent) == sorted(recurrent)
    coder: Shapes = {"in.weight": (100, 784), "middle.weight": (100, 100), "out.weight": (784, 100)}
    assert backbone(coder) == sorted(coder)
    small: Shapes = {"one.weight": (10, 20), "two.weight": (8, 10)}
    assert backbone(small) == sorted(small)


def test_single_numbers_are_no_part_of_an_architecture() -> None:
    shapes: Shapes = {"conv1.weight": (8, 3, 3, 3), "conv2.weight": (8, 8, 3, 3), "gate": (1,)}
    assert backbone({**shapes, "Const_16:0": ()}) == backbone({**shapes, "Const_4:0": ()}) == sorted(shapes)


def test_roles() -> None:
    assert role("layer.0.attention.weight", (4, 4)) == "weight"
    assert role("layer.0.norm.weight", (768,)) == "vector"
    assert role("conv.bias", (768, 1, 1)) == "vector"
    assert role("embeddings.word_embeddings.weight", (100, 4)) == "embedding"
    assert role("lm_head.weight", (100, 4)) == "head"
    assert role("bn1.running_mean", (4,)) == "statistic"
    assert role("h.0.attn.bias", (1, 1, 8, 8)) == "buffer"
    for name in ("stft.forward_basis_buffer", "spectrogram_extractor.stft.conv_real.weight", "logmel_extractor.melW"):
        assert role(name, (513, 1, 1024)) == "constant"
    for name in ("conv._compiled_main_left_right._w3j_1_1_2", "products.0.contractions.0.U_matrix_3"):
        assert role(name, (3, 3, 5)) == "constant"
    assert role("pos_encoder.pe", (5000, 1, 64)) == role("encoder.0.pos.pe", (100, 64)) == "constant"
    assert role("encoder.window_attention.weight", (4, 4)) == role("conv_real.weight", (4, 4)) == "weight"


def test_constants_are_part_of_an_architecture() -> None:
    """As they were before they were told from weights."""
    shapes: Shapes = {"conv1.weight": (8, 3, 3, 3), "stft.forward_basis_buffer": (34, 1, 32), "fc.weight": (10, 8)}
    assert backbone(shapes) == ["conv1.weight", "stft.forward_basis_buffer"]
