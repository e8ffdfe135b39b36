"""ONNX: what exporters and quantisers make of a model, read as the model has it; and what strangers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from store.errors import SkipError
from tests.entry_arrays import entries_of
from tests.hostile_files import varint
from tests.source_files import reason_of

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 6)).astype(np.float32)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = torch.nn.Linear(8, 8)
        self.up = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(self.q(x))  # type: ignore[no-any-return]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(11, 8)
        self.layers = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(8, 3)

    def forward(self, i: torch.Tensor) -> torch.Tensor:
        x = self.emb(i)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
def test_what_torch_exports_has_the_names_and_values_of_its_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    torch.onnx.export(net, (torch.arange(6).reshape(2, 3),), tmp_path / "m.onnx", dynamo=False)
    found = entries_of(tmp_path / "m.onnx", "onnx")
    assert not found.left_out
    assert set(found.entries) == set(net.state_dict())
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(found.array(name), tensor.numpy(), err_msg=name)


def written(path: Path, nodes: list[Any], arrays: dict[str, Array], **settings: Any) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph), path, **settings)
    return path


def quantised(weight: Array, axis: int | None, signed: bool) -> tuple[Array, Array, Array]:
    """Integers, scale and zero point of `weight`, for all of it or along `axis`."""
    other = None if axis is None else 1 - axis
    low, high = np.minimum(0, weight.min(axis=other)), np.maximum(0, weight.max(axis=other))
    scale = np.asarray((high - low) / 255, np.float32)
    zero = np.asarray(np.round(-low / scale) - (128 if signed else 0), np.int8 if signed else np.uint8)
    wide, zeros = (np.expand_dims(part, other) if other is not None else part for part in (scale, zero))
    q = np.round(weight / wide) + zeros
    return np.clip(q, *((-128, 127) if signed else (0, 255))).astype(zero.dtype), scale, zero


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_behind_a_dequantize_linear(tmp_path: Path, axis: int | None, signed: bool) -> None:
    """QDQ, as optimum and onnxruntime write it; the folded transpose [in, out] is named by the scope of its node."""
    q, scale, zero = quantised(WEIGHT.T, axis, signed)
    settings: dict[str, Any] = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"], **settings),
        helper.make_node("MatMul", ["x", "w"], ["y"], "/encoder/layer.0/query/MatMul"),
    ]
    path = written(tmp_path / "m.onnx", nodes, {"w_q": q, "w_scale": scale, "w_zero": zero})
    found = entries_of(path, "onnx")
    # `w` could be anybody's name, so it is kept; one that an exporter made up is not.
    assert list(found.entries) == ["w"]
    nodes[0].output[0] = nodes[1].input[1] = "onnx::MatMul_12_DequantizeLinear_Output"
    nodes[0].input[0] = "onnx::MatMul_12_quantized"
    path = written(path, nodes, {"onnx::MatMul_12_quantized": q, "w_scale": scale, "w_zero": zero})
    found = entries_of(path, "onnx")
    assert list(found.entries) == ["encoder.layer.0.query.weight"]
    assert found.entries["encoder.layer.0.query.weight"].stored == ("onnx i8" if signed else "onnx u8")
    np.testing.assert_allclose(found.array("encoder.layer.0.query.weight"), WEIGHT, atol=float(np.max(scale)))
    exact = ((q.astype(np.float32) - (np.expand_dims(zero, 1 - axis) if axis is not None else zero))
             * (np.expand_dims(scale, 1 - axis) if axis is not None else scale)).T  # fmt: skip
    np.testing.assert_array_equal(found.array("encoder.layer.0.query.weight"), exact)


def test_dynamic_quantisation_of_onnxruntime(tmp_path: Path) -> None:
    q, scale, zero = quantised(WEIGHT.T, None, True)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["xq", "onnx::MatMul_7_quantized", "xz", "onnx::MatMul_7_zero_point"], ["i"],
                         "/layer.1/key/MatMul_quant"),
        helper.make_node("DequantizeLinear", ["emb.weight_quantized", "emb.weight_scale", "emb.weight_zero_point"],
                         ["emb.weight_DequantizeLinear_Output"]),
        helper.make_node("Gather", ["emb.weight_DequantizeLinear_Output", "ids"], ["x"]),
    ]  # fmt: skip
    arrays = {"onnx::MatMul_7_quantized": q, "onnx::MatMul_7_scale": scale, "onnx::MatMul_7_zero_point": zero}
    arrays |= {"emb.weight_quantized": q, "emb.weight_scale": scale, "emb.weight_zero_point": zero}
    found = entries_of(written(tmp_path / "m.onnx", nodes, arrays), "onnx")
    assert set(found.entries) == {"layer.1.key.weight", "emb.weight"}
    np.testing.assert_allclose(found.array("layer.1.key.weight"), WEIGHT, atol=float(scale))
    np.testing.assert_allclose(found.array("emb.weight"), WEIGHT.T, atol=float(scale))


def test_a_weight_without_a_name_takes_that_of_its_bias(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "val_3"], ["y"], "node_MatMul_3"),
        helper.make_node("Add", ["y", "block.0.dense.bias"], ["z"]),
        helper.make_node("Gemm", ["z", "val_9", "head.bias"], ["o"], "node_gemm", transB=1),
        helper.make_node("MatMul", ["o", "val_11"], ["p"], "node_MatMul_4"),
        helper.make_node("Transpose", ["own.weight"], ["t_1"], perm=[1, 0]),
        helper.make_node("MatMul", ["p", "t_1"], ["r"], "/somewhere/MatMul"),
        helper.make_node("MatMul", ["x", "h.0.c_attn.weight"], ["s"], "/h.0/c_attn/MatMul"),
    ]
    arrays: dict[str, Array] = {
        "val_3": WEIGHT.T, "block.0.dense.bias": np.ones(8, np.float32), "val_9": WEIGHT, "val_11": WEIGHT,
        "head.bias": np.ones(8, np.float32), "own.weight": WEIGHT, "h.0.c_attn.weight": WEIGHT,
        "val_20": np.ones(3, np.int64), "const_1": np.ones((), np.float32), "position_ids": np.arange(9),
    }  # fmt: skip
    found = entries_of(written(tmp_path / "m.onnx", nodes, arrays), "onnx")
    expected = {"block.0.dense.weight", "block.0.dense.bias", "head.weight", "head.bias", "val_11", "own.weight"}
    assert set(found.entries) == {*expected, "h.0.c_attn.weight"}
    for name in ("block.0.dense.weight", "head.weight", "own.weight", "h.0.c_attn.weight"):
        np.testing.assert_array_equal(found.array(name), WEIGHT, err_msg=name)


def test_values_in_other_files(tmp_path: Path) -> None:
    arrays = {"a.weight": WEIGHT, "b.weight": np.arange(5000, dtype=np.float32)}
    path = written(
        tmp_path / "m.onnx", [], arrays, save_as_external_data=True, location="m.onnx_data", size_threshold=0
    )
    found = entries_of(path, "onnx")
    for name, array in arrays.items():
        file = found.entries[name].file
        assert file is not None
        assert file.path == "m.onnx_data"
        np.testing.assert_array_equal(found.array(name), array)
    (tmp_path / "m.onnx_data").write_bytes(b"x" * 100)
    assert set(entries_of(path, "onnx").left_out.values()) == {"truncated"}
    (tmp_path / "m.onnx_data").unlink()
    assert set(entries_of(path, "onnx").left_out.values()) == {"missing_external_data"}


def test_weights_of_constant_nodes(tmp_path: Path) -> None:
    """As paddle2onnx writes all of them: under their names, without numbers that operations take."""

    def constant(name: str, array: Array) -> Any:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))

    nodes = [
        constant("conv2d_0.w_0", WEIGHT.reshape(4, 4, 3, 1)),
        constant("batch_norm2d_0.w_0", WEIGHT[0]),
        constant("linear_0.w_0", WEIGHT),
        constant("Constant.3", np.array([0.5], np.float32)),
        constant("p2o.helper.constant.9", np.arange(3, dtype=np.float32)),
        constant("helper.constant.10", np.arange(3, dtype=np.float32)),
        constant("shape", np.arange(3)),
        helper.make_node("Conv", ["x", "conv2d_0.w_0"], ["y"], "p2o.Conv.0"),
        helper.make_node("MatMul", ["y", "linear_0.w_0"], ["z"], "p2o.MatMul.0"),
        helper.make_node("ConstantOfShape", ["shape"], ["v"], value=numpy_helper.from_array(WEIGHT[0, :1])),
    ]
    found = entries_of(written(tmp_path / "m.onnx", nodes, {}), "onnx")
    assert set(found.entries) == {"conv2d_0.w_0", "batch_norm2d_0.w_0", "linear_0.w_0"}
    assert not found.left_out
    np.testing.assert_array_equal(found.array("linear_0.w_0"), WEIGHT)
    np.testing.assert_array_equal(found.array("conv2d_0.w_0"), WEIGHT.reshape(4, 4, 3, 1))


def branch(depth: int, **arrays: Array) -> Any:
    """A graph with these weights, as deep as that within others."""
    tensors = [numpy_helper.from_array(array, name.replace("_", ".")) for name, array in arrays.items()]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", tensors[0].name], ["y"])], "b", [], [], tensors)
    for _ in range(depth):
        graph = helper.make_graph([helper.make_node("Loop", ["n"], ["y"], body=graph)], "b", [], [])
    return graph


def test_weights_of_branches(tmp_path: Path) -> None:
    """Those of one name in two branches are one tensor."""
    then, other = branch(0, a_weight=WEIGHT, b_weight=WEIGHT + 1), branch(2, b_weight=WEIGHT + 2, c_weight=WEIGHT + 3)
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    found = entries_of(written(tmp_path / "m.onnx", nodes, {"d.weight": WEIGHT + 4}), "onnx")
    assert set(found.entries) == {"a.weight", "b.weight", "c.weight", "d.weight"}
    for name, more in (("a", 0), ("b", 1), ("c", 3), ("d", 4)):
        np.testing.assert_array_equal(found.array(f"{name}.weight"), WEIGHT + more)
    deep = [helper.make_node("Loop", ["n"], ["y"], body=branch(20, a_weight=WEIGHT))]
    assert reason_of(lambda: entries_of(written(tmp_path / "m.onnx", deep, {}), "onnx")) == "too_large"


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "x\x1b[2J", "", "\\\\host\\share"])
def test_a_location_never_leads_out_of_the_model(tmp_path: Path, location: str) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph = helper.make_graph([], "g", [], [], [tensor])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (tmp_path.parent / "secret").write_bytes(bytes(8))
    assert entries_of(tmp_path / "m.onnx", "onnx").left_out == {"w": "bad_name"}


def test_every_way_to_write_values(tmp_path: Path) -> None:
    tensors = [
        helper.make_tensor("float.data", 1, [2], [1.5, 2.5]),
        helper.make_tensor("double.data", 11, [2], [1.5, 2.5]),
        helper.make_tensor("half.data", 10, [2], [1.5, 2.5]),
        helper.make_tensor("bfloat.data", 16, [2], [1.5, 2.5]),
        numpy_helper.from_array(np.array([1.5, 2.5], np.float16), "half.raw"),
    ]
    graph = helper.make_graph([], "g", [], [], tensors)
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    found = entries_of(tmp_path / "m.onnx", "onnx")
    assert len(found.entries) == 5
    for name in found.entries:
        assert found.array(name).astype(np.float32).tolist() == [1.5, 2.5], name


def hostile(tensor: TensorProto) -> bytes:
    return bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty_file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
    "web page": (b"<!DOCTYPE html><html>", "bad_header"),
    "zeros": (bytes(100), "bad_header"),
    "graph of 2^60 bytes": (b"\x3a" + b"\xff" * 8 + b"\x0f", "bad_header"),
    "endless number": (b"\x3a" + b"\xff" * 40, "bad_header"),
    "no graph": (b"\x08\x08", "bad_header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_skipped_with_a_reason(tmp_path: Path, case: str) -> None:
    content, reason = HOSTILE[case]
    (tmp_path / "m.onnx").write_bytes(content)
    assert reason_of(lambda: entries_of(tmp_path / "m.onnx", "onnx")) == reason


def test_what_single_tensors_are_left_out_for(tmp_path: Path) -> None:
    for tensor, reason in (
        (TensorProto(name="w", data_type=1, dims=[2**62, 2**62], raw_data=b"1234"), "bad_header"),
        (TensorProto(name="w", data_type=1, dims=[-1], raw_data=b"1234"), "bad_header"),
        (TensorProto(name="w", data_type=6, dims=[1], int32_data=[]), "bad_header"),
        (TensorProto(name="w", data_type=8, dims=[1], string_data=[b"x"]), "unknown_dtype"),
        (TensorProto(name="w\x1b[2J", data_type=1, dims=[1], raw_data=b"1234"), "bad_name"),
    ):
        (tmp_path / "m.onnx").write_bytes(hostile(tensor))
        assert list(entries_of(tmp_path / "m.onnx", "onnx").left_out.values()) == [reason]


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer by hand: what no library writes."""
    key = varint(number << 3 | isinstance(value, bytes) << 1)
    return key + (varint(len(value)) + value if isinstance(value, bytes) else varint(value))


def initializers(*tensors: bytes) -> bytes:
    return field(7, b"".join(field(5, tensor) for tensor in tensors))


def test_numbers_one_by_one_are_signed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    half = field(1, 1) + field(2, 10) + field(8, b"w") + field(5, 2**63 + 0x3E00)
    path.write_bytes(initializers(half, field(1, 0) + field(1, 2**64 - 1) + field(2, 1) + field(8, b"long")))
    found = entries_of(path, "onnx")
    assert found.array("w").tolist() == [1.5]
    assert found.left_out == {"long": "bad_header"}
    monkeypatch.setattr("crawl.formats.protobuf.MAX_NUMBERS", 30)
    path.write_bytes(initializers(*(field(2, 6) + field(8, b"%d" % at) + field(5, bytes(10)) for at in range(4))))
    assert reason_of(lambda: entries_of(path, "onnx")) == "too_large"


def test_tensors_on_the_same_bytes_of_another_file(tmp_path: Path) -> None:
    place = field(13, field(1, b"location") + field(2, b"w.bin"))
    tensors = [field(1, 100) + field(2, 1) + field(8, b"w%d" % at) + field(14, 1) + place for at in range(5)]
    (tmp_path / "m.onnx").write_bytes(initializers(*tensors))
    (tmp_path / "w.bin").write_bytes(bytes(400))
    assert reason_of(lambda: entries_of(tmp_path / "m.onnx", "onnx")) == "bad_header"


def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "s", "z"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"], "/encoder/layer.0/query/MatMul"),
    ]
    nodes += [
        helper.make_node("Constant", [], ["c.weight"], value=numpy_helper.from_array(WEIGHT[0])),
        helper.make_node("If", ["c"], ["y"], then_branch=branch(1, a_weight=WEIGHT[:2])),
    ]
    q, scale, zero = quantised(WEIGHT.T, 1, True)
    path = written(tmp_path / "m.onnx", nodes, {"w_q": q, "s": scale, "z": zero, "b.bias": WEIGHT[0]})
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for at in [*range(0, len(whole), 3), *[-int(cut) for cut in random.integers(1, len(whole), 60)]]:
        raw = bytearray(whole)
        if at < 0:
            del raw[-at:]
        else:
            raw[at] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)
        try:
            assert isinstance(entries_of(path, "onnx").arrays, dict)
        except SkipError:
            continue
