"""Headers of safetensors files: a round trip with the format's own library, and what strangers write."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from crawl.local_file import open_below
from crawl.names import escaped, is_plain
from crawl.safetensors_file import TensorEntry, read_header
from store.dtypes import DTYPES
from store.errors import SkipError
from tests.bytes_reader import BytesReader

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def write(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def reason_of(content: bytes, size: int | None = None) -> str:
    with pytest.raises(SkipError) as caught:
        read_header(BytesReader(content, size))
    assert "model.safetensors" in str(caught.value)
    assert is_plain(str(caught.value))
    return caught.value.reason


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_reads_as_the_library_wrote_it(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "model.safetensors"
    values = torch.arange(6).reshape(2, 3).to(TORCH[dtype])
    save_file({"b": values, "a": torch.zeros(0, 4)}, path, metadata={"format": "pt"})
    with open_below(str(tmp_path), str(path), "m") as reader:
        found = {entry.name: entry for entry in read_header(reader)}
        entry = found["b"]
        buffer = bytearray(entry.stop - entry.start)
        reader.read_into(entry.start, memoryview(buffer))
    assert (entry.dtype, entry.shape, entry.elements) == (dtype, (2, 3), 6)
    array = np.frombuffer(buffer, DTYPES[dtype]).reshape(entry.shape)
    assert array.astype(np.float64).tolist() == values.to(torch.float64).tolist()
    assert found["a"].elements == 0
    assert found["a"].start == found["a"].stop


def test_the_dtypes_are_those_of_the_library_that_fill_whole_bytes() -> None:
    assert set(DTYPES) == set(TORCH)
    assert DTYPES["BF16"] == ml_dtypes.bfloat16


def test_the_order_is_that_of_the_bytes_and_a_scalar_has_one_element() -> None:
    header = {"z": tensor(offsets=[0, 8]), "a": tensor(shape=[], offsets=[8, 12])}
    entries = read_header(BytesReader(write(header, bytes(12))))
    start = 8 + len(json.dumps(header))
    assert entries == [
        TensorEntry("z", "F32", (2,), start, start + 8),
        TensorEntry("a", "F32", (), start + 8, start + 12),
    ]
    assert entries[1].elements == 1


def test_padding_metadata_holes_and_trailing_bytes_are_allowed() -> None:
    raw = json.dumps({"__metadata__": {"a": "b"}, "t": tensor(offsets=[4, 12])}).encode() + b"   "
    (entry,) = read_header(BytesReader(write(raw, bytes(100))))
    assert entry.start == 8 + len(raw) + 4


def test_an_unknown_dtype_costs_its_tensor_and_not_the_file() -> None:
    told: list[tuple[str, str, str]] = []
    header = {"odd": tensor("F4", [2], [0, 1]), "good": tensor(offsets=[1, 9])}
    entries = read_header(
        BytesReader(write(header, bytes(9))), lambda path, name, why: told.append((path, name, why.reason))
    )
    assert [entry.name for entry in entries] == ["good"]
    assert told == [("model.safetensors", "odd", "unknown_dtype")]


@pytest.mark.parametrize("name", ["", "a\x1b[2Jb", "a\nb", "\ud800", "x" * 2000, "a\u202eb"])
def test_a_name_that_cannot_be_stored_costs_its_tensor(name: str) -> None:
    told: list[tuple[str, str]] = []
    content = write({name: tensor(), "good": tensor(offsets=[8, 16])}, bytes(16))
    entries = read_header(BytesReader(content), lambda path, name, why: told.append((name, why.reason)))
    assert [entry.name for entry in entries] == ["good"]
    ((shown, reason),) = told
    assert reason == "bad_name"
    assert shown == escaped(shown)
    assert len(shown) <= 210


HOSTILE: dict[str, tuple[bytes, str]] = {
    "0-byte file": (b"", "empty_file"),
    "7 bytes": (b"1234567", "truncated"),
    "header longer than the file": (struct.pack("<Q", 1000) + b"{}", "truncated"),
    "header of 2^60 bytes": (struct.pack("<Q", 2**60) + b"{}", "bad_header"),
    "header of 2^64-1 bytes": (b"\xff" * 8 + b"{}", "bad_header"),
    "git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "lfs_pointer",
    ),
    "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "bad_header"),
    "empty header": (write(b""), "bad_header"),
    "not UTF-8": (write(b'{"\xff":1}'), "bad_header"),
    "UTF-16": (write("{}".encode("utf-16")), "bad_header"),
    "not JSON": (write(b"{]"), "bad_header"),
    "array": (write(b"[]"), "bad_header"),
    "leading space": (write(b" {}"), "bad_header"),
    "deep nesting": (write(b'{"a":' + b"[" * 200_000), "bad_header"),
    "deep objects": (write(b'{"a":' * 200_000), "bad_header"),
    "NaN": (write(b'{"a":NaN}'), "bad_header"),
    "number of 10,000 digits": (write(b'{"a":' + b"9" * 10_000 + b"}"), "bad_header"),
    "duplicate tensor": (write(b'{"a":1,"a":2}'), "bad_header"),
    "duplicate key in a tensor": (
        write(b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "bad_header",
    ),
    "tensor that is a list": (write({"a": []}), "bad_header"),
    "no dtype": (write({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "bad_header"),
    "dtype that is a number": (write({"a": tensor(dtype=3)}, bytes(8)), "bad_header"),  # type: ignore[arg-type]
    "no shape": (write({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "bad_header"),
    "negative shape": (write({"a": tensor(shape=[-2])}, bytes(8)), "bad_header"),
    "two negative axes": (write({"a": tensor(shape=[-2, -1])}, bytes(8)), "bad_header"),
    "fractional shape": (write({"a": tensor(shape=[2.0])}, bytes(8)), "bad_header"),
    "true as a shape": (write({"a": tensor(shape=[True, 2])}, bytes(8)), "bad_header"),
    "huge axis": (write({"a": tensor(shape=[2**70])}, bytes(8)), "bad_header"),
    "product that wraps to 8 bytes": (write({"a": tensor(shape=[2**62, 2**62, 2])}, bytes(8)), "bad_header"),
    "shape of 70 axes": (write({"a": tensor(shape=[1] * 70, offsets=[0, 4])}, bytes(8)), "bad_header"),
    "descending offsets": (write({"a": tensor(offsets=[8, 0])}, bytes(8)), "bad_header"),
    "negative offset": (write({"a": tensor(offsets=[-8, 0])}, bytes(8)), "bad_header"),
    "shape and offsets disagree": (write({"a": tensor(shape=[3])}, bytes(8)), "bad_header"),
    "empty tensor with bytes": (write({"a": tensor(shape=[0])}, bytes(8)), "bad_header"),
    "overlap": (write({"a": tensor(), "b": tensor(offsets=[4, 12])}, bytes(12)), "bad_header"),
    "same bytes twice": (write({"a": tensor(), "b": tensor()}, bytes(8)), "bad_header"),
    "out of the file": (write({"a": tensor()}, bytes(7)), "truncated"),
    "far out of the file": (write({"a": tensor("I8", [2**62], [0, 2**62])}, bytes(8)), "truncated"),
    "unknown dtype out of the file": (write({"a": tensor("F4", [2], [0, 99])}, bytes(8)), "truncated"),
    "metadata that is a list": (write({"__metadata__": []}), "bad_header"),
    "metadata of numbers": (write({"__metadata__": {"a": 1}}), "bad_header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_skipped_with_a_reason(case: str) -> None:
    content, reason = HOSTILE[case]
    assert reason_of(content) == reason


def test_every_cut_of_a_good_file_is_told() -> None:
    content = write({"a": tensor(), "b": tensor(offsets=[8, 16])}, bytes(16))
    for length in range(len(content)):
        assert reason_of(content[:length]) in {"truncated", "empty_file"}


def test_nothing_is_allocated_for_a_length_that_the_file_cannot_have() -> None:
    reader = BytesReader(struct.pack("<Q", 90_000_000) + b"{}")
    with pytest.raises(SkipError):
        read_header(reader)
    assert reader.largest == 8


def test_a_header_of_too_many_values_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = write({"a": tensor(), "b": tensor(offsets=[8, 16])}, bytes(16))
    assert len(read_header(BytesReader(content))) == 2
    monkeypatch.setattr("crawl.safetensors_file.MAX_VALUES", 10)
    assert reason_of(content) == "bad_header"


def test_an_empty_header_is_a_file_of_no_tensors() -> None:
    assert read_header(BytesReader(write({}))) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "I8", "F4", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 50), min_size=2, max_size=2) | JSON,
    },
)


HEADERS = st.dictionaries(st.text(max_size=8) | st.just("__metadata__"), ENTRIES | JSON, max_size=4)


def outcome(reader: BytesReader) -> list[TensorEntry] | SkipError:
    try:
        return read_header(reader)
    except SkipError as error:
        return error


def only_skips(content: bytes, size: int | None = None) -> None:
    reader = BytesReader(content, size)
    found = outcome(reader)
    if isinstance(found, SkipError):
        assert found.reason
        assert is_plain(str(found))
        return
    end = 0
    for entry in found:
        assert end <= entry.start <= entry.stop <= reader.size
        assert entry.elements * DTYPES[entry.dtype].itemsize == entry.stop - entry.start
        end = entry.stop


@given(st.binary(max_size=200))
def test_arbitrary_bytes_only_ever_skip(content: bytes) -> None:
    only_skips(content)


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_arbitrary_headers_only_ever_skip(header: bytes, data: bytes) -> None:
    only_skips(write(b"{" + header, data))


@given(HEADERS, st.binary(max_size=60), st.integers(0, 100))
def test_arbitrary_json_only_ever_skips(header: dict[str, Any], data: bytes, more: int) -> None:
    content = write(header, data)
    only_skips(content)
    only_skips(content, len(content) + more)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(TORCH)), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_what_the_library_reads_is_read_alike(shapes: list[tuple[str, list[int]]]) -> None:
    tensors = {f"t{i}": torch.zeros(shape).to(TORCH[dtype]) for i, (dtype, shape) in enumerate(shapes)}
    content = safetensors.torch.save(tensors)
    entries = read_header(BytesReader(content))
    assert {e.name: (e.dtype, list(e.shape)) for e in entries} == {f"t{i}": s for i, s in enumerate(shapes)}
