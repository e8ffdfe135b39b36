"""The cache of huggingface_hub as a source."""

from __future__ import annotations

import os
from pathlib import Path

from crawl.hfcache import CacheSource, is_cache
from crawl.source import ModelRef, RangeReader, Source
from tests.source_files import listed, model, reason_of, tensors, weights

SHA = "0123456789abcdef0123456789abcdef01234567"


def cached(root: Path, name: str, revision: str = SHA, *, main: str | None = None) -> Path:
    """A repository in the cache with one snapshot, its weights a link into blobs. Returns the snapshot."""
    repository = root / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    weights(repository / "blobs" / f"blob-{revision}", revision[:4])
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/blob-{revision}")
    if main is not None:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(main)
    return snapshot


def test_a_cache_is_known_by_its_layout(tmp_path: Path) -> None:
    assert not is_cache(tmp_path)
    assert not is_cache(tmp_path / "none")
    (tmp_path / "models--a--b").mkdir()
    assert not is_cache(tmp_path)
    cached(tmp_path, "org/name")
    assert is_cache(str(tmp_path))


def test_a_cache_lists_one_revision_of_each_model(tmp_path: Path) -> None:
    cached(tmp_path, "org/name", "a" * 40, main="b" * 40 + "\n")
    newest = cached(tmp_path, "org/name", "c" * 40)
    cached(tmp_path, "org/name", "b" * 40)
    os.utime(newest, (2e9, 2e9))
    cached(tmp_path, "gpt2", "a" * 40)
    os.utime(cached(tmp_path, "gpt2", "d" * 40), (2e9, 2e9))
    (tmp_path / "datasets--org--data" / "snapshots" / SHA).mkdir(parents=True)
    (tmp_path / ".locks").mkdir()
    (tmp_path / "version.txt").write_text("1")
    source: Source = CacheSource(tmp_path)
    found = {item.name: item for item in source.models() if isinstance(item, ModelRef)}
    assert {name: item.revision[0] for name, item in found.items()} == {"gpt2": "d", "org/name": "b"}
    assert listed(source)[1] == []
    assert found["gpt2"].modified_at is not None
    assert tensors(source, "org/name") == [("model.safetensors", "bbbb")]
    assert source.label == f"cache:{tmp_path}"
    assert (source.remote, source.requests) == (False, 0)


def test_a_cache_reads_sub_folders_and_text(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "org/name")
    (snapshot / "onnx").mkdir()
    (snapshot / "onnx" / "config.json").write_text("{}")
    source = CacheSource(tmp_path)
    found = model(source, "org/name")
    assert [file.path for file in source.files(found)] == ["model.safetensors", "onnx/config.json"]
    assert source.read_text(found, "onnx/config.json", 10) == "{}"
    assert source.read_text(found, "README.md", 10) is None
    for path in ("../../refs/main", "/etc/passwd"):
        assert reason_of(lambda: source.read_text(found, path, 10)) == "bad_name"  # noqa: B023
    for name, revision in (("../x", SHA), ("org/name", ".."), ("org/name", "a/b")):
        assert reason_of(lambda: source.files(ModelRef(name, revision))) == "bad_name"  # noqa: B023
    assert reason_of(lambda: source.files(ModelRef("org/name", "f" * 40))) == "vanished"


def test_what_is_unusable_in_a_cache_is_told(tmp_path: Path) -> None:
    secret = weights(tmp_path / "outside", "secret")
    root = tmp_path / "hub"
    cached(root, "a/partial")
    (root / "models--a--partial" / "blobs" / f"blob-{SHA}").unlink()
    outside = cached(root, "b/outside")
    (outside / "model.safetensors").unlink()
    (outside / "model.safetensors").symlink_to(secret)
    card = cached(root, "c/card")
    (card / "model.safetensors").rename(card / "README.md")
    (root / "models--d--none" / "refs").mkdir(parents=True)
    (root / "models--..--etc" / "snapshots" / SHA).mkdir(parents=True)
    (root / "models--e--link").symlink_to(tmp_path)
    good = cached(root, "g/good", main="../../x")
    (good / "README.md").symlink_to("../../blobs/none")
    models, skipped = listed(CacheSource(root))
    assert models == ["g/good"]
    assert sorted(skipped) == [
        ("a/partial", "incomplete_snapshot"),
        ("b/outside", "link_outside_source"),
        ("c/card", "no_weights"),
        ("d/none", "incomplete_snapshot"),
        ("models--..--etc", "bad_name"),
        ("models--e--link", "link_outside_source"),
    ]


def test_the_sources_keep_the_contract(tmp_path: Path) -> None:
    cached(tmp_path, "org/name")
    source = CacheSource(tmp_path)
    found = model(source, "org/name")
    (file,) = source.files(found)
    with source.open(found, file) as reader:
        assert isinstance(reader, RangeReader)
        assert (reader.path, reader.size) == ("org/name/model.safetensors", file.size)
