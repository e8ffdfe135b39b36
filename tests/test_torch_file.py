"""PyTorch files, zip and older: what torch.save writes in all its forms, and what strangers write. Nothing runs."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl.formats.inert_pickle import read_pickle
from crawl.formats.torch_records import Opaque
from store.errors import SkipError
from tests.entry_arrays import FileEntries, entries_of
from tests.source_files import reason_of

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])


def saved(path: Path, what: Any, zipped: bool = True) -> FileEntries:
    torch.save(what, path, _use_new_zipfile_serialization=zipped)
    return entries_of(path, "torch")


def equal(found: FileEntries, expected: dict[str, torch.Tensor]) -> None:
    assert set(found.entries) == set(expected)
    for name, tensor in expected.items():
        assert found.entries[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(
            found.array(name).astype(np.float64), tensor.detach().to(torch.float64).numpy(), err_msg=name
        )


def state() -> dict[str, torch.Tensor]:
    w = torch.randn(300, 700)
    shared = torch.arange(40.0)
    return {
        "plain": w, "transposed": w.t(), "rows": w[10:20], "columns": w[:, 5:9], "every.second": w[::2, ::3],
        "half": w.half(), "bfloat": w.bfloat16(), "double": w[:2].double(), "parameter": torch.nn.Parameter(w[:3]),
        "channels_last": torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "long": torch.arange(5), "bool": torch.arange(3) > 1,
        "shared": shared, "part": shared[7:9], "tied": shared,
    }  # fmt: skip


@FORMS
def test_what_torch_saves_is_read(tmp_path: Path, zipped: bool) -> None:
    tensors = state()
    if zipped:
        tensors |= {"float8": torch.randn(6).to(torch.float8_e4m3fn), "wide": torch.arange(4).to(torch.uint16)}
    found = saved(tmp_path / "m.bin", tensors, zipped)
    equal(found, tensors)
    assert not found.left_out
    assert {found.entries[name].dtype for name in ("plain", "half", "bfloat", "long")} == {"F32", "F16", "BF16", "I64"}


class Named(dict[str, Any]):
    """As Lightning's AttributeDict, a dictionary of a class of its own; with an attribute besides."""

    def __init__(self, items: dict[str, Any], name: str) -> None:
        super().__init__(items)
        self.name = name


@FORMS
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: {"state_dict": s, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}], "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": torch.ones(9)}, "args": collections.Counter("abc")},
        lambda s: {"epoch": 1, "unusual": s, "optim": {"m": torch.ones(2)}},
        lambda s: {"params": s, "params_ema": s},
        lambda s: collections.OrderedDict(s),
        lambda s: {"model_state_dict": {"inner": s}},
        lambda s: {"hyper_parameters": Named({"lr": 1e-3}, "a"), "state_dict": s},
        lambda s: {"state_dict": Named(s, "b")},
    ],
)
def test_the_weights_of_a_checkpoint_are_found(tmp_path: Path, wrapped: Any, zipped: bool) -> None:
    tensors = {"layers.0.weight": torch.randn(3, 4), "layers.1.weight": torch.randn(3, 4)}
    equal(saved(tmp_path / "last.ckpt", wrapped(tensors), zipped), tensors)


@FORMS
def test_a_module_saved_whole_has_the_names_of_its_state_dict(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    equal(saved(tmp_path / "m.pt", module, zipped), module.state_dict())
    equal(saved(tmp_path / "m.pt", {"ema": None, "model": module}, zipped), module.state_dict())
    equal(saved(tmp_path / "m.pt", torch.fx.symbolic_trace(module), zipped), module.state_dict())
    if zipped:
        torch.jit.save(torch.jit.script(module), tmp_path / "m.pt")
        equal(entries_of(tmp_path / "m.pt", "torch"), module.state_dict())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_any_view_reads_as_torch_sees_it(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], random: Any, zipped: bool
) -> None:
    """A law: permuted, cut and stepped as you like, from any offset, whole or in part."""
    view = torch.arange(float(np.prod(shape))).reshape(shape).permute(random.sample(range(len(shape)), len(shape)))
    view = view[tuple(slice(random.randrange(size), None, random.randint(1, 3)) for size in view.shape)]
    found = saved(tmp_path_factory.mktemp("view") / "m.bin", {"v": view}, zipped)
    equal(found, {"v": view})
    first = random.randrange(view.numel())
    stop = random.randint(first + 1, view.numel())
    np.testing.assert_array_equal(found.array("v", first, stop), view.reshape(-1)[first:stop].numpy())


class Runs:
    """Pickles to something that leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@FORMS
def test_nothing_in_a_file_is_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    tensors = {"w": torch.ones(2, 3)}
    found = saved(tmp_path / "m.bin", {"state_dict": tensors, "config": Runs(trace), "f": [Runs(trace)]}, zipped)
    equal(found, tensors)
    assert not trace.exists()


def test_every_protocol_of_pickle_is_walked() -> None:
    value = {"a": [1, -(2**70), 2.5, None, True, "é", b"x" * 300, (1,), (1, 2, 3, 4), {"b": {}}], "c": Runs(Path("x"))}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found, _ = read_pickle(io.BytesIO(pickle.dumps(value, protocol)), "m")
        assert found["a"][:6] == [1, -(2**70), 2.5, None, True, "é"]
        assert found["a"][-3:-1] == [(1,), (1, 2, 3, 4)]
        assert isinstance(found["c"], Opaque)
        assert found["c"].name in ("posix.system", "nt.system")


def pickled(opcodes: bytes) -> str:
    return reason_of(lambda: read_pickle(io.BytesIO(opcodes), "m.bin"))


HOSTILE_PICKLES = {
    "nothing": b"",
    "no STOP": b"\x80\x02}",
    "unknown opcode": b"\x80\x02\xff.",
    "empty stack": b"\x80\x020.",
    "memo that is not there": b"\x80\x02h\x05.",
    "no mark": b"\x80\x02t.",
    "string of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "bytes of 2^63": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "integer of 4 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "integer of 100 kB": b"\x80\x02\x8b" + struct.pack("<I", 100_000) + b"\x01" * 100_000 + b".",
    "decimal of 100,000 digits": b"I" + b"9" * 100_000 + b"\n.",
    "next buffer": b"\x80\x05\x97.",
    "storage of negative size": b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03"
    b"\x00\x00\x00cpuJ\xff\xff\xff\xfftQ.",
}


@pytest.mark.parametrize("case", HOSTILE_PICKLES)
def test_a_hostile_pickle_is_refused(case: str) -> None:
    assert pickled(HOSTILE_PICKLES[case]) == "bad_pickle"


def test_more_opcodes_than_a_checkpoint_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawl.formats.inert_pickle.MAX_OPCODES", 100)
    assert pickled(b"\x80\x02" + b"N0" * 100 + b".") == "bad_pickle"


def test_a_dictionary_that_unfolds_to_a_billion_is_walked_once(tmp_path: Path) -> None:
    inner: Any = {"w": torch.ones(1)}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    found = saved(tmp_path / "m.bin", inner)
    assert len(found.entries) == 1
    loop: dict[str, Any] = {"w": torch.ones(2)}
    loop["again"] = loop
    assert set(saved(tmp_path / "m.bin", loop).entries) == {"w"}


def repacked(path: Path, changed: dict[str, bytes | None] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """A torch zip with entries changed (by the last part of their name) or left out."""
    torch.save({"w": torch.arange(6.0), "v": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            new = (changed or {}).get(name.rpartition("/")[2], data)
            if new is not None:
                archive.writestr(name, new)
    return path


def test_a_key_that_python_would_not_print_is_passed_over(tmp_path: Path) -> None:
    huge = b"\x8b" + struct.pack("<i", 9000) + b"\x7f" * 9000
    path = repacked(tmp_path / "m.bin", {"data.pkl": b"\x80\x02}(" + huge + b"}u."})
    assert reason_of(lambda: entries_of(path, "torch")) == "no_tensors"


def test_hostile_zips(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"

    def reason() -> str:
        return reason_of(lambda: entries_of(path, "torch"))

    repacked(path, compression=zipfile.ZIP_DEFLATED)
    assert reason() == "compressed"
    repacked(path, {"data.pkl": None})
    assert reason() == "unsupported_format"
    repacked(path, {"byteorder": b"big"})
    assert reason() == "unsupported_format"
    repacked(path, {"data.pkl": pickle.dumps([1, 2])})
    assert reason() == "no_tensors"
    repacked(path, {"data.pkl": b"\x80\x02garbage"})
    assert reason() == "bad_pickle"
    path.write_bytes(b"")
    assert reason() == "empty_file"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert reason() == "lfs_pointer"
    path.write_bytes(b"<html>not found</html>")
    assert reason() == "unsupported_format"
    path.write_bytes(pickle.dumps({"a": 1}, 2))
    assert reason() == "unsupported_format"


def test_a_storage_that_is_short_or_gone_costs_its_tensor(tmp_path: Path) -> None:
    path = repacked(tmp_path / "m.bin", {"1": None})
    found = entries_of(path, "torch")
    assert set(found.entries) == {"w"}
    assert found.left_out == {"v": "missing_storage"}
    path = repacked(tmp_path / "m.bin", {"0": b"\0" * 8})
    assert reason_of(lambda: entries_of(path, "torch")) == "truncated"


def test_names_in_a_zip_are_keys_and_no_paths(tmp_path: Path) -> None:
    path = repacked(tmp_path / "m.bin")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("/etc/passwd", b"x")
        archive.writestr("../../outside", b"x")
        archive.writestr("\x1b[2J", b"x")
    assert set(entries_of(path, "torch").entries) == {"w", "v"}


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = repacked(tmp_path / "m.bin")
    raw = bytearray(path.read_bytes())
    first = raw.index(b"PK\1\2")
    second = raw.index(b"PK\1\2", first + 1)
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    path.write_bytes(raw)
    assert reason_of(lambda: entries_of(path, "torch")) == "bad_zip"


def test_tensors_larger_together_than_the_file_are_refused(tmp_path: Path) -> None:
    shared = torch.ones(100_000)
    torch.save({f"t{at}": shared for at in range(5)}, tmp_path / "m.bin")
    assert reason_of(lambda: entries_of(tmp_path / "m.bin", "torch")) == "bad_header"
    torch.save({"wide": torch.ones(1).expand(10**12)}, tmp_path / "m.bin")
    assert entries_of(tmp_path / "m.bin", "torch").left_out == {"wide": "unsupported_layout"}


@FORMS
def test_every_cut_and_every_changed_byte_is_a_skip_or_a_tensor(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "m.bin"
    torch.save({"w": torch.arange(4.0), "n": torch.ones(2, 2).t()}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(0, len(whole), 60):
        path.write_bytes(whole[:length])
        with pytest.raises(SkipError):
            entries_of(path, "torch")
    for at in random.integers(0, len(whole), 150):
        raw = bytearray(whole)
        raw[at] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)
        try:
            found = entries_of(path, "torch")
            for name in found.entries:
                found.array(name)
        except SkipError:
            continue
