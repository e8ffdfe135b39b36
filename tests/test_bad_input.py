"""Files that are not what they seem, beside two good models: each is told, none stops the run or spoils the graph."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crawl.model_sketch import SketchedModel, sketch_model
from crawl.source import ModelRef, Source
from tests.runs import GOOD, answers, check_pair, index, leftovers, related, skipped
from tests.weights import Weights, change, family, raw_file, root, save, tuned

FILE = "model.safetensors"
Make = Callable[[Path], object]


def header(*tensors: tuple[str, list[int], int, int]) -> dict[str, object]:
    """(name, shape, start, stop) of float32 tensors."""
    return {name: {"dtype": "F32", "shape": shape, "data_offsets": [a, b]} for name, shape, a, b in tensors}


def cut(folder: Path, size: int) -> None:
    os.truncate(save(folder, root(9)), size)


def every(value: float) -> Make:
    return lambda folder: save(folder, {name: np.full_like(w, value) for name, w in root(9).items()})


def shards(folder: Path, **placed: str) -> None:
    save(folder, {"a": root(9)["layers.0.weight"]}, "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


def pipe(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / FILE)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(target)


LOST: dict[str, tuple[Make, str, tuple[str, ...]]] = {
    "truncated": (lambda f: cut(f, 9000), "truncated", (FILE, "expected tensor", "found a file of 9000 bytes")),
    "header longer than the file": (
        lambda f: raw_file(f / FILE, header(("a", [2], 0, 8)), bytes(8), length=9999),
        "truncated",
        (FILE, "expected a header of 9999 bytes"),
    ),
    "header of 2^60 bytes": (
        lambda f: raw_file(f / FILE, header(("a", [2], 0, 8)), bytes(8), length=2**60),
        "bad_header",
        (FILE, "expected a header of at most 100000000 bytes", str(2**60)),
    ),
    "no header": (lambda f: raw_file(f / FILE, b"\x00\xff{}", b""), "bad_header", (FILE, "expected a header")),
    "overlap": (
        lambda f: raw_file(f / FILE, header(("a", [4], 0, 16), ("b", [4], 8, 24)), bytes(24)),
        "bad_header",
        (FILE, "expected tensors that do not overlap"),
    ),
    "out of the file": (
        lambda f: raw_file(f / FILE, header(("a", [2**40], 0, 2**42)), bytes(8)),
        "truncated",
        (FILE, "expected tensor a to end at byte", "found a file of"),
    ),
    "size and shape disagree": (
        lambda f: raw_file(f / FILE, header(("a", [3], 0, 8)), bytes(8)),
        "bad_header",
        (FILE, "expected 12 bytes for tensor a"),
    ),
    "NaN everywhere": (every(np.nan), "not_finite", ("layers.0.weight", "is nan", "3 of 3 are left out")),
    "infinite everywhere": (every(-np.inf), "not_finite", ("layers.0.weight", "is -inf")),
    "zero everywhere": (every(0.0), "constant_weights", ("bad/model", "all weights are constant")),
    "empty file": (lambda f: raw_file(f / FILE, b"", b"").write_bytes(b""), "empty_file", (FILE, "0 bytes")),
    "empty tensors": (
        lambda f: raw_file(f / FILE, header(("a", [0, 2**62], 0, 0)), b""),
        "empty_tensor",
        ("tensor a", "holds no values"),
    ),
    "no tensors": (lambda f: raw_file(f / FILE, b"{}", b""), "no_tensors", ("bad/model", "no tensor")),
    "pickle": (
        lambda f: raw_file(f / "pytorch_model.bin", b"x", b""),
        "unsupported_format",
        ("bad/model", "pytorch_model.bin", "expected"),
    ),
    "no weights": (lambda f: f.mkdir(parents=True), "no_weights", ("bad/model", "expected")),
    "missing shard": (
        lambda f: shards(f, a="model-00001-of-00002.safetensors", b="model-00002-of-00002.safetensors"),
        "missing_shard",
        ("expected the shard model-00002-of-00002.safetensors",),
    ),
    "shard above the model": (
        lambda f: shards(f, a="../../good/root/model.safetensors"),
        "bad_name",
        ("expected shards that are files of the model", "../../good/root"),
    ),
    "backslash in the name": (
        lambda f: save(f.parent / "mo\\del", root(9)),
        "bad_name",
        ("bad/mo\\del", "expected a name"),
    ),
    "control characters in the name": (
        lambda f: save(f.parent / "\x1b[31m\nmodel", root(9)),
        "bad_name",
        (r"\x1b[31m\nmodel", "expected a name in UTF-8 without control characters"),
    ),
    "name of 1200 characters": (
        lambda f: save(f.joinpath(*["m" * 240] * 5), root(9)),
        "bad_name",
        ("bad/model/mmm", "expected a path of at most 1024 characters"),
    ),
    "bytes that are no UTF-8 in the name": (
        lambda f: save(f.parent / os.fsdecode(b"mod\xffel"), root(9)),
        "bad_name",
        (r"mod\xffel", "expected a name in UTF-8"),
    ),
    "pipe": (
        pipe,
        "not_a_file",
        (FILE, "expected a regular file, found a pipe"),
    ),
    "link to a file outside": (
        lambda f: link(f / FILE, save(f.parents[2] / "outside", root(9))),
        "link_outside_source",
        (FILE, "link to a place outside the source", "not followed"),
    ),
    "link to a folder outside": (
        lambda f: link(f, save(f.parents[2] / "outside", root(9)).parent),
        "link_outside_source",
        ("bad/model", "link to a place outside the source"),
    ),
    "broken link": (
        lambda f: link(f / FILE, Path("nowhere")),
        "broken_link",
        (FILE, "leads nowhere"),
    ),
}


@pytest.mark.parametrize("fault", LOST)
def test_a_bad_model_is_told_and_left_out(tmp_path: Path, fault: str) -> None:
    make, reason, says = LOST[fault]
    family(tmp_path / "source", "good", 1)
    make(tmp_path / "source" / "bad" / "model")
    row = check_pair(tmp_path / "source", tmp_path / "graph")
    assert (row["scope"], row["reason"]) == ("model", reason)
    assert row["message"].isprintable()
    assert all(part in row["message"] for part in says), row["message"]


def test_a_bug_costs_the_model_that_it_is_met_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family(tmp_path / "source", "good", 1)
    save(tmp_path / "source" / "bad" / "model", root(9))

    def sketch(source: Source, ref: ModelRef, **how: Any) -> SketchedModel:
        if ref.name.startswith("bad"):
            raise KeyError("layer\n\x1b[2J")
        return sketch_model(source, ref, **how)

    monkeypatch.setattr("crawl.sketching.sketch_model", sketch)
    row = check_pair(tmp_path / "source", tmp_path / "graph")
    assert (row["name"], row["scope"], row["reason"]) == ("bad/model", "model", "bug")
    assert row["message"].isprintable()
    assert "KeyError" in row["message"]
    assert "test_bad_input.py" in row["message"]


def unknown_type(folder: Path, weights: Weights) -> None:
    file = save(folder, weights)
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"X32"', 1))


def with_empty(folder: Path, weights: Weights) -> None:
    save(folder, {**weights, "layers.1.extra": np.empty((0, 7), np.float32)})


LAMED: dict[str, tuple[Callable[[Path, Weights], object], str, tuple[str, ...]]] = {
    "NaN": (
        lambda f, w: save(f, change(w, 1, one=np.nan)),
        "not_finite",
        ("layers.1.weight of shape [48, 48]", "value at flat position 341 is nan"),
    ),
    "infinity": (lambda f, w: save(f, change(w, 1, one=np.inf)), "not_finite", ("layers.1.weight", "341 is inf")),
    "zeros": (lambda f, w: save(f, change(w, 1, all=0.0)), "zero_tensor", ("layers.1.weight", "1 of 3", "all zeros")),
    "no values": (with_empty, "empty_tensor", ("layers.1.extra", "shape [0, 7] holds no values")),
    "unknown type": (unknown_type, "unknown_dtype", (FILE, "layers.0.weight", "expected one of F64", "found X32")),
}


@pytest.mark.parametrize("fault", LAMED)
def test_a_bad_tensor_is_told_and_its_model_stays(tmp_path: Path, fault: str) -> None:
    make, reason, says = LAMED[fault]
    family(tmp_path / "source", "good", 1)
    make(tmp_path / "source" / "bad" / "model", tuned(root(1), 77))
    row = check_pair(tmp_path / "source", tmp_path / "graph", live=frozenset({"bad/model"}))
    assert (row["name"], row["scope"], row["reason"]) == ("bad/model", "tensor", reason)
    assert all(part in row["message"] for part in says), row["message"]
    found = answers(tmp_path / "graph")
    if fault not in ("no values", "unknown type"):
        # The tensors that are left still show where it comes from.
        assert found["bad/model"].path[0] == found["good/root"].path[0]


def test_a_bad_file_beside_the_weights_is_told_and_its_model_stays(tmp_path: Path) -> None:
    family(tmp_path / "source", "good", 1)
    (tmp_path / "secret").write_text("---\nlicense: mit\n---\n")
    save(tmp_path / "source" / "bad" / "model", root(9))
    (tmp_path / "source" / "bad" / "model" / "README.md").symlink_to(tmp_path / "secret")
    row = check_pair(tmp_path / "source", tmp_path / "graph", live=frozenset({"bad/model"}))
    assert (row["name"], row["scope"], row["reason"]) == ("bad/model", "file", "link_outside_source")
    assert row["path"] == "bad/model/README.md"


def test_weights_that_overflow_are_told_or_measured(tmp_path: Path) -> None:
    """Flipped exponent bits make weights that are finite and absurd."""
    source = tmp_path / "source"
    family(source, "good", 1)
    for at, value in enumerate((1e38, -3e38, 1e-40)):
        save(source / "bad" / f"{at}", change(tuned(root(1), at), at, one=value))
        save(source / "bad" / f"{at}-scaled", {name: w * np.float32(value) for name, w in root(1).items()})
    for at, value in enumerate((1e308, 1.7e308, 1e155, 1e61)):
        save(source / "worse" / f"{at}", {name: w.astype(np.float64) * value for name, w in root(1).items()})
    check_pair(source, tmp_path / "graph", rows=4, live=frozenset(answers_of(source, "bad")))
    assert {row["reason"] for row in skipped(tmp_path / "graph")} == {"not_finite"}


def answers_of(source: Path, folder: str) -> Iterator[str]:
    return (f"{folder}/{path.name}" for path in (source / folder).iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    family(tmp_path / "source", "good", 1)
    save(tmp_path / "source" / "bad" / "model", root(9)).chmod(0)
    row = check_pair(tmp_path / "source", tmp_path / "graph")
    assert (row["scope"], row["reason"]) == ("model", "unreadable")
    assert "bad/model/model.safetensors cannot be read: Permission denied" in row["message"]


def damaged(raw: bytearray, chance: np.random.Generator) -> bytearray:
    """A file as a bad disk or a broken copy leaves it: cut, overwritten, bits flipped in its header or its data."""
    kind, size, header = chance.integers(4), len(raw), 300
    if kind == 0:
        return raw[: chance.integers(size)]
    if kind == 1:
        start, stop = sorted(chance.integers(header, size, 2))
        raw[start:stop] = chance.bytes(stop - start)
        return raw
    for _ in range(chance.integers(1, 4 if kind == 2 else 60)):
        at = chance.integers(header) if kind == 2 else chance.integers(header, size)
        raw[at] ^= 1 << int(chance.integers(8))
    return raw


@pytest.mark.parametrize("seed", [1, 2])
def test_random_damage_stops_nothing(tmp_path: Path, seed: int) -> None:
    chance = np.random.default_rng(seed)
    source, graph = tmp_path / "source", tmp_path / "graph"
    family(source, "good", 1)
    for at in range(100):
        file = save(source / "bad" / f"{at:03}", tuned(root(1 if at % 2 else 1000 + at // 8), at))
        file.write_bytes(damaged(bytearray(file.read_bytes()), chance))
    report = index(source, graph)
    found, told = answers(graph), {row["name"] for row in skipped(graph) if row["scope"] == "model"}
    assert found.keys() | told == {*GOOD, *(f"bad/{at:03}" for at in range(100))}
    assert not found.keys() & told
    assert min(len(found), len(told), len(skipped(graph)) - len(told)) > 10
    assert related(graph, *GOOD)
    assert all(math.isfinite(place.distance or 0.0) for place in found.values())
    assert (report.seen, index(source, graph).unchanged) == (102, len(found))
    assert answers(graph) == found
    assert leftovers(graph) == []
