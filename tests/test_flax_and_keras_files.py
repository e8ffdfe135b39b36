"""flax's msgpack and Keras's HDF5: what their writers write, as PyTorch has it; and what strangers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crawl.formats.keras_names import from_keras, keras_names
from store.errors import SkipError
from tests.entry_arrays import entries_of
from tests.source_files import reason_of

Array = NDArray[Any]


def extension(array: Array) -> Any:
    """flax.serialization._ndarray_to_bytes."""
    packed = msgpack.packb((array.shape, array.dtype.name, array.tobytes("C")), use_bin_type=True)
    return msgpack.ExtType(1, packed)


def chunks(array: Array, size: int) -> dict[str, Any]:
    """flax.serialization._chunk."""
    flat = array.reshape(-1)
    parts = [flat[at : at + size] for at in range(0, flat.size, size)]
    shape = {str(at): each for at, each in enumerate(array.shape)}
    return {
        "__msgpack_chunked_array__": True,
        "shape": shape,
        "chunks": {str(at): extension(part) for at, part in enumerate(parts)},
    }


def written(path: Path, tree: Any) -> Path:
    path.write_bytes(msgpack.packb(tree, default=extension, strict_types=True))
    return path


def test_flax_parameters_have_the_names_and_axes_of_pytorch(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    kernel, conv = random.normal(size=(6, 8)).astype(np.float32), random.normal(size=(3, 3, 4, 5)).astype(np.float32)
    half = random.normal(size=(70, 9)).astype(ml_dtypes.bfloat16)
    big = random.normal(size=(20, 30)).astype(np.float32)
    tree = {
        "params": {
            "encoder": {"layer": {"0": {"query": {"kernel": kernel, "bias": kernel[0]}, "norm": {"scale": half[0]}}}},
            "embeddings": {"word_embeddings": {"embedding": half}},
            "conv": {"kernel": conv},
            "big": {"kernel": chunks(big, 128), "embedding": chunks(big, 70)},
        },
        "batch_stats": {"bn": {"mean": conv[0, 0, 0], "var": conv[0, 0, 1]}},
        "step": 3,
        "note": ["x", [1.5, None, {"a": b"b"}]],
    }
    found = entries_of(written(tmp_path / "m.msgpack", tree), "flax")
    expected = {
        "encoder.layer.0.query.weight": kernel.T,
        "encoder.layer.0.query.bias": kernel[0],
        "encoder.layer.0.norm.weight": half[0],
        "embeddings.word_embeddings.weight": half,
        "conv.weight": conv.transpose(3, 2, 0, 1),
        "big.weight": None,
        "bn.running_mean": conv[0, 0, 0],
        "bn.running_var": conv[0, 0, 1],
    }
    assert set(found.entries) == set(expected)
    expected["big.weight"] = big.T if found.entries["big.weight"].shape == (30, 20) else big
    for name, array in expected.items():
        assert array is not None
        assert found.entries[name].dtype == ("BF16" if array.dtype == ml_dtypes.bfloat16 else "F32")
        np.testing.assert_array_equal(found.array(name).astype(float), array.astype(float), err_msg=name)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 90), st.data())
def test_chunks_read_as_one_array(
    tmp_path_factory: pytest.TempPathFactory, size: int, chunk: int, data: st.DataObject
) -> None:
    array = np.arange(size, dtype=np.float32)
    path = written(tmp_path_factory.mktemp("chunks") / "m.msgpack", {"w": chunks(array, chunk)})
    found = entries_of(path, "flax")
    first = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(first + 1, size))
    np.testing.assert_array_equal(found.array("w", first, stop), array[first:stop])


MSGPACKS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty_file"),
    "no map": (b"\x93\1\2\3", "bad_header"),
    "unused byte": (b"\x81\xa1a\xc1", "bad_header"),
    "nothing in it": (b"\x80", "no_tensors"),
    "map of 4 billion": (b"\xdf\xff\xff\xff\xff" + b"\xa1a\1" * 9, "truncated"),
    "list of 4 billion": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "truncated"),
    "name of 4 GB": (b"\x81\xdb\xff\xff\xff\xff", "bad_header"),
    "bytes of 4 GB": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "truncated"),
    "extension of 4 GB": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "truncated"),
    "deep maps": (b"\x81\xa1a" * 5000 + b"\1", "bad_header"),
    "deep lists": (b"\x81\xa1a" + b"\x91" * 5000 + b"\1", "no_tensors"),
    "array of arrays": (msgpack.packb({"a": msgpack.ExtType(1, b"\x91\x91\x91")}), "bad_header"),
    "array without bytes": (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[2], "float32", 5]))}), "bad_header"),
    "chunks of a negative size": (
        msgpack.packb({"a": {"kernel": {**chunks(np.ones(6, np.float32), 6), "shape": {"0": -2, "1": -3}}}},
                      default=extension),
        "bad_header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MSGPACKS)
def test_a_hostile_msgpack_is_skipped_with_a_reason(tmp_path: Path, case: str) -> None:
    content, reason = MSGPACKS[case]
    (tmp_path / "m.msgpack").write_bytes(content)
    assert reason_of(lambda: entries_of(tmp_path / "m.msgpack", "flax")) == reason


def test_what_single_parameters_are_left_out_for(tmp_path: Path) -> None:
    good = np.ones(3, np.float32)
    tree = {"good": good, "c": good.astype(np.complex64), "a\x1b": good,
            "long": msgpack.ExtType(1, msgpack.packb([[0, 2**64 - 1], "float32", b""])),
            "short": msgpack.ExtType(1, msgpack.packb([[4], "float32", b"123"]))}  # fmt: skip
    found = entries_of(written(tmp_path / "m.msgpack", tree), "flax")
    assert set(found.entries) == {"good"}
    assert sorted(found.left_out.values()) == ["bad_header", "bad_header", "bad_name", "unknown_dtype"]


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


@pytest.mark.parametrize("kind", ["keras", "flax"])
def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m"
    array = np.ones((4, 4), np.float32)
    if kind == "keras":
        keras(path, {"d": {"d/kernel:0": array, "d/bias:0": array[0]}, "e": {}})
    else:
        written(path, {"d": {"kernel": array, "bias": chunks(array, 5)}})
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for step in range(260):
        raw = bytearray(whole)
        if step % 5:
            raw[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        else:
            del raw[random.integers(len(whole)) :]
        path.write_bytes(raw)
        try:
            assert isinstance(entries_of(path, kind).arrays, dict)
        except SkipError:
            continue
