"""Models of several files: the index, the shards, and what does not fit together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.folder import FolderSource
from crawl.shards import model_tensors, read_index
from tests.source_files import index, model, reason_of, tensors, weights


def test_shards_are_read_through_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    weights(folder / "x1.safetensors", "a", "extra")
    weights(folder / "x2.safetensors", "b", "a")
    weights(folder / "unused.safetensors", "c")
    index(
        folder / "model.safetensors.index.json",
        a="x2.safetensors",
        b="x2.safetensors",
        extra="x1.safetensors",
    )
    assert tensors(FolderSource(tmp_path), "m") == [
        ("x1.safetensors", "extra"),
        ("x2.safetensors", "b"),
        ("x2.safetensors", "a"),
    ]


def test_shards_without_an_index_are_read_together(tmp_path: Path) -> None:
    weights(tmp_path / "m" / "model-00001-of-00002.safetensors", "a")
    weights(tmp_path / "m" / "model-00002-of-00002.safetensors", "b")
    assert [name for _, name in tensors(FolderSource(tmp_path), "m")] == ["a", "b"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: weights(f / "model-00001-of-00002.safetensors", "a"), "missing_shard"),
        (lambda f: index(f / "model.safetensors.index.json", a="gone.safetensors"), "missing_shard"),
        (lambda f: index(f / "model.safetensors.index.json", a="../x/b.safetensors"), "bad_name"),
        (lambda f: index(f / "model.safetensors.index.json", a="/etc/passwd"), "bad_name"),
        (lambda f: index(f / "model.safetensors.index.json", a="a\x1b.safetensors"), "bad_name"),
        (lambda f: index(f / "model.safetensors.index.json", other="w.safetensors"), "bad_index"),
        (lambda f: index(f / "model.safetensors.index.json"), "bad_index"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "bad_index"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[" * 100_000), "bad_index"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}'), "bad_index"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "bad_index"),
        (
            lambda f: [weights(f / f"model-0000{n}-of-00002.safetensors", "same") for n in (1, 2)],
            "duplicate_tensor",
        ),
    ],
)
def test_shards_that_do_not_fit_together_are_told(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    weights(tmp_path / "m" / "w.safetensors", "a")
    make(tmp_path / "m")
    source = FolderSource(tmp_path)
    assert reason_of(lambda: model_tensors(source, model(source, "m"))) == reason


def test_a_tensor_of_unknown_dtype_is_told_and_not_missed_in_the_index(tmp_path: Path) -> None:
    path = weights(tmp_path / "m" / "x.safetensors", "a", "b")
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F99"', 1))
    index(tmp_path / "m" / "model.safetensors.index.json", a="x.safetensors", b="x.safetensors")
    source = FolderSource(tmp_path)
    told: list[tuple[str, str, str]] = []
    found = model_tensors(
        source, model(source, "m"), on_skip=lambda file, name, why: told.append((file, name, why.reason))
    )
    assert [entry.name for _, entry in found] == ["b"]
    assert told == [("m/x.safetensors", "a", "unknown_dtype")]


@given(st.text(max_size=100) | st.dictionaries(st.text(), st.text() | st.integers()).map(json.dumps))
def test_an_index_of_any_text_only_ever_skips(text: str) -> None:
    assert reason_of(lambda: read_index(text)) in {"bad_index", "bad_name"}
