"""Keras's HDF5: what its releases write, as PyTorch has it; and what strangers write."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.formats.keras_names import from_keras, keras_names
from tests.damaged_bytes import survive
from tests.entry_arrays import entries_of
from tests.keras_files import Array, Layers, keras, keras3, layers_of_keras_3
from tests.source_files import reason_of


@pytest.mark.parametrize("nested", [False, True])
def test_keras_weights_have_the_names_and_axes_of_pytorch(tmp_path: Path, nested: bool) -> None:
    random = np.random.default_rng(0)
    dense, conv = random.normal(size=(6, 8)).astype(np.float32), random.normal(size=(3, 3, 4, 5)).astype(np.float32)
    layers: dict[str, dict[str, Array]] = {
        "lstm_1": {"lstm_1/kernel:0": dense, "lstm_1/recurrent_kernel:0": dense, "lstm_1/bias:0": dense[0]},
        "conv": {"conv/kernel:0": conv, "conv/bias:0": conv[0, 0, 0]},
        "bn": {"bn/gamma:0": dense[0], "bn/moving_mean:0": dense[1].astype(np.float64)},
        "dropout": {},
        "bert": {"tf_bert_model/bert/encoder/layer_._3/attention/self/query/kernel:0": dense,
                 "tf_bert_model/bert/embeddings/LayerNorm/beta:0": dense[0]},
    }  # fmt: skip
    found = entries_of(keras(tmp_path / "m.h5", layers, nested), "keras")
    expected = {
        "lstm_1.weight": dense.T, "lstm_1.recurrent_kernel": dense, "lstm_1.bias": dense[0],
        "conv.weight": conv.transpose(3, 2, 0, 1), "conv.bias": conv[0, 0, 0],
        "bn.weight": dense[0], "bn.running_mean": dense[1],
        "bert.encoder.layer.3.attention.self.query.weight": dense.T, "bert.embeddings.LayerNorm.bias": dense[0],
    }  # fmt: skip
    assert set(found.entries) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found.array(name).astype(np.float32), array, err_msg=name)


@pytest.mark.parametrize("name", ["m.weights.h5", "m.keras"])
def test_keras_3_gives_what_keras_2_gives(tmp_path: Path, name: str) -> None:
    new, old = layers_of_keras_3()
    found, expected = (
        entries_of(keras3(tmp_path / name, new), "keras"),
        entries_of(keras(tmp_path / "m.h5", old), "keras"),
    )
    assert found.left_out == expected.left_out == {}
    assert set(found.entries) == set(expected.entries)
    assert {"dense_1.weight", "time_distributed.dense.weight", "mine.bias", "my_layer.0"} < set(found.entries)
    assert found.entries["depthwise_conv2d.weight"].shape == (5, 1, 3, 3)
    for tensor, entry in expected.entries.items():
        assert (found.entries[tensor].dtype, found.entries[tensor].shape) == (entry.dtype, entry.shape), tensor
        np.testing.assert_array_equal(found.array(tensor), expected.array(tensor), err_msg=tensor)


def test_the_first_releases_of_keras_3_do_not_say_what_layers_are_called(tmp_path: Path) -> None:
    found = entries_of(keras3(tmp_path / "m.keras", layers_of_keras_3()[0], named=False), "keras").entries
    assert {"conv2d.weight", "dense.weight", "dense_1.weight", "bidirectional.forward_layer.weight"} < set(found)


def test_weights_of_a_model_itself(tmp_path: Path) -> None:
    found = entries_of(keras3(tmp_path / "m.weights.h5", {"": ("m", [np.ones(3, np.float32)])}), "keras")
    assert set(found.entries) == {"top_level_model_weights.0"}


def test_zip_files_that_are_no_keras_model(tmp_path: Path) -> None:
    packed = keras3(tmp_path / "m.keras", layers_of_keras_3()[0], packed=zipfile.ZIP_DEFLATED)
    assert reason_of(lambda: entries_of(packed, "keras")) == "unsupported_format"
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as file:
        file.writestr("config.json", "{}")
    assert reason_of(lambda: entries_of(tmp_path / "n.keras", "keras")) == "bad_header"
    with zipfile.ZipFile(tmp_path / "o.keras", "w") as file:
        file.writestr("model.weights.h5", "")
    assert reason_of(lambda: entries_of(tmp_path / "o.keras", "keras")) == "bad_header"


def test_groups_in_a_circle_are_looked_at_once(tmp_path: Path) -> None:
    path = keras3(tmp_path / "m.weights.h5", layers_of_keras_3()[0])
    with h5py.File(path, "a") as file:
        file["layers/dense/again"] = file["layers"]
    assert {"conv2d.weight", "dense_1.weight"} < set(entries_of(path, "keras").entries)


def test_layers_within_layers_within_layers(tmp_path: Path) -> None:
    deep: Layers = {"/".join(["a"] * depth): ("a", []) for depth in range(1, 80)}
    assert reason_of(lambda: entries_of(keras3(tmp_path / "m.weights.h5", deep), "keras")) == "too_large"


@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_names_are_bounded_together(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = layers_of_keras_3()
    path = keras(tmp_path / name, old) if name == "m.h5" else keras3(tmp_path / name, new)
    monkeypatch.setattr("crawl.formats.keras_file.MAX_NAMES", 200)
    assert reason_of(lambda: entries_of(path, "keras")) == "too_large"


def test_a_layer_has_one_name_whenever_its_file_was_saved() -> None:
    """As Keras 2.0, TensorFlow 1, and TensorFlow 2 after other models were built call the same layers."""
    first = [
        ("embedding_1", "embedding_1/embeddings:0"),
        ("conv1d_1", "conv1d_1/kernel:0"),
        ("conv1d_2", "conv1d_2/kernel:0"),
        ("lstm_1", "lstm_1/kernel:0"),
        ("bidirectional_1", "bidirectional_1/forward_lstm_1/kernel:0"),
        ("dense_13", "dense_13/bias:0"),
    ]
    second = [
        ("embedding", "embedding_3/embeddings:0"),
        ("conv1d", "conv1d_13/kernel:0"),
        ("conv1d_1", "conv1d_1_2/kernel:0"),
        ("lstm", "lstm/kernel:0"),
        ("bidirectional", "bidirectional/bidirectional/forward_lstm/kernel:0"),
        ("dense", "dense/bias:0"),
    ]
    third = [
        ("embedding_9", "embedding_9/embeddings:0"),
        ("conv1d_9", "conv1d_9/kernel:0"),
        ("conv1d_10", "conv1d_10/kernel:0"),
        ("lstm_4", "lstm_4/lstm_cell_7/kernel:0"),
        ("bidirectional_2", "bidirectional_2/forward_lstm_5/lstm_cell_9/kernel:0"),
        ("dense_1", "dense_1/bias:0"),
    ]
    expected = [
        *("embedding.weight", "conv1d.weight", "conv1d_1.weight", "lstm.weight"),
        *("bidirectional.forward_lstm.weight", "dense.bias"),
    ]
    assert keras_names(first) == keras_names(second) == keras_names(third) == expected


def test_names_stay_apart() -> None:
    """Layers of a layer may be called as it is but for their numbers, and cells may be stacked."""
    inner = [("block", "block_1/kernel:0"), ("block", "block_2/kernel:0")]
    assert keras_names(inner) == ["block.block_1.weight", "block.block_2.weight"]
    cells = [("rnn", "rnn/stack/lstm_cell/kernel:0"), ("rnn", "rnn/stack/lstm_cell_1/kernel:0")]
    assert keras_names(cells) == ["rnn.stack.lstm_cell.weight", "rnn.stack.lstm_cell_1.weight"]
    odd = [("a_1", "a_1/w:0"), ("a_0", "a_0/w:0"), ("a_1_2", "a_1_2/w:0")]
    assert keras_names(odd) == ["a_1.w", "a_0.w", "a_1_2.w"]
    own = [("layer", "tf_bert/bert/layer_._1/dense_7/kernel:0"), ("dense_7", "dense_7/kernel:0")]
    assert keras_names(own) == ["bert.layer.1.dense_7.weight", "dense_7.weight"]
    assert keras_names([]) == []


LAYERS = st.text("ab_/0123", min_size=1, max_size=8)


@given(st.lists(st.tuples(LAYERS, LAYERS), max_size=8))
def test_no_two_names_become_one(parts: list[tuple[str, str]]) -> None:
    weights = [(layer, f"{layer}/{inner}") for layer, inner in parts]
    before = [from_keras(*each) for each in weights]
    told = keras_names(weights)
    assert len(told) == len(weights)
    assert len(set(told)) >= len(set(before))


def test_names_of_layers_within_layers() -> None:
    assert from_keras("dense_1", "dense_1/kernel:0") == "dense_1.weight"
    assert from_keras("block", "block/inner/kernel:0") == "block.inner.weight"
    assert from_keras("model", "other/kernel:0") == "model.other.weight"


def test_hostile_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.h5"
    weights: dict[str, dict[str, Array]] = {"d": {"d/kernel:0": np.ones((4, 4), np.float32)}}

    def reason() -> str:
        return reason_of(lambda: entries_of(path, "keras"))

    path.write_bytes(b"")
    assert reason() == "empty_file"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    assert reason() == "bad_header"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.ones(3))
    assert reason() == "bad_header"
    keras(path, weights, chunks=(2, 2), compression="gzip")
    assert entries_of(path, "keras").left_out == {"d.weight": "unsupported_layout"}
    keras(path, weights)
    monkeypatch.setattr("crawl.formats.hdf5.MAX_STEPS", 20)
    assert reason() == "too_large"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["layer_names"] = [b"a"]
    assert reason() == "unsupported_format"


def test_what_many_names_share_in_an_hdf5_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"

    def reason() -> str:
        return reason_of(lambda: entries_of(path, "keras"))

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"a"] * 30)
        group = file.create_group("a")
        group.create_dataset("w", data=np.ones(3, np.float32))
        group.attrs["weight_names"] = np.array([b"w"] * 60_000)
    assert reason() == "too_large"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group["w0"] = np.ones(10_000, np.float32)
        for at in range(1, 9):
            group[f"w{at}"] = group["w0"]
        group.attrs["weight_names"] = [f"w{at}".encode() for at in range(9)]
    assert reason() == "bad_header"
    with h5py.File(path, "w") as file:
        file.attrs.create("layer_names", ["x" * 5000] * 9, dtype=h5py.string_dtype())
    assert reason() == "bad_header"


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.keras"])
def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path, name: str) -> None:
    array = np.ones((4, 4), np.float32)
    if name == "m.h5":
        keras(tmp_path / name, {"d": {"d/kernel:0": array, "d/bias:0": array[0]}, "e": {}})
    else:
        keras3(tmp_path / name, {"layers/dense": ("d", [array, array[0]]), "layers/e": ("e", [])})
    survive(tmp_path / name, "keras")
