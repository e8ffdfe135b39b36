"""flax's msgpack: what its writer writes, as PyTorch has it; and what strangers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.damaged_bytes import survive
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


def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path) -> None:
    array = np.ones((4, 4), np.float32)
    survive(written(tmp_path / "m", {"d": {"kernel": array, "bias": chunks(array, 5)}}), "flax")
