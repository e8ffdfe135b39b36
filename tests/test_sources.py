"""Folders as sources of models."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crawl.folder import FolderSource
from crawl.hfcache import CacheSource
from crawl.names import is_plain
from crawl.source import FileRef, ModelRef, SkippedModel, Source
from store.errors import StopError
from tests.source_files import listed, model, reason_of, tensors, weights


def test_each_folder_that_holds_weights_is_a_model(tmp_path: Path) -> None:
    weights(tmp_path / "zoo" / "a" / "model.safetensors", "w")
    weights(tmp_path / "zoo" / "a" / "child" / "model.safetensors", "w")
    weights(tmp_path / "zoo" / "b" / "c" / "other.safetensors", "w")
    (tmp_path / "zoo" / "old").mkdir()
    (tmp_path / "zoo" / "old" / "model.pb").write_bytes(b"x")
    (tmp_path / "zoo" / "card").mkdir()
    (tmp_path / "zoo" / "card" / "README.md").write_text("x")
    (tmp_path / "zoo" / "empty").mkdir()
    weights(tmp_path / "zoo" / "lora" / "adapter_model.safetensors", "w")
    weights(tmp_path / "zoo" / ".cache" / "x" / "model.safetensors", "w")
    source: Source = FolderSource(tmp_path / "zoo")
    assert listed(source) == (
        ["a", "a/child", "b/c", "lora"],
        [
            ("card", "no_weights"),
            ("empty", "no_weights"),
            ("old", "unsupported_format"),
        ],
    )
    assert source.label == f"folder:{tmp_path}/zoo"
    assert (source.remote, source.requests) == (False, 0)


def test_the_source_itself_may_be_the_model(tmp_path: Path) -> None:
    weights(tmp_path / "llama" / "model.safetensors", "w")
    weights(tmp_path / "llama" / "sub" / "model.safetensors", "v")
    source = FolderSource(str(tmp_path / "llama"))
    assert listed(source) == (["llama", "sub"], [])
    assert tensors(source, "llama") == [("model.safetensors", "w")]
    weights(tmp_path / "llama" / "llama" / "model.safetensors", "u")
    assert listed(source) == (["llama", "sub"], [("llama", "name_taken")])
    assert tensors(source, "llama") == [("model.safetensors", "u")]


def test_unrelated_files_of_one_folder_are_models_of_their_own(tmp_path: Path) -> None:
    for stem in ("one", "two", "three-00001-of-00001"):
        weights(tmp_path / "zoo" / "loose" / f"{stem}.safetensors", stem[:3])
    (tmp_path / "zoo" / "loose" / "config.json").write_text("{}")
    (tmp_path / "zoo" / "loose" / "old.bin").write_bytes(b"x")
    weights(tmp_path / "zoo" / "loose" / "one" / "model.safetensors", "inner")
    source = FolderSource(tmp_path / "zoo")
    names = ["loose/one", "loose/one.safetensors", "loose/three", "loose/two"]
    assert listed(source) == (names, [])
    assert tensors(source, "loose/two") == [("two.safetensors", "two")]
    assert tensors(source, "loose/one.safetensors") == [("one.safetensors", "one")]
    assert tensors(source, "loose/one") == [("model.safetensors", "inner")]
    assert [file.path for file in source.files(model(source, "loose/two"))] == [
        "config.json",
        "two.safetensors",
    ]
    assert source.read_text(model(source, "loose/three"), "config.json", 10) == "{}"


def test_unrelated_files_of_the_source_itself(tmp_path: Path) -> None:
    for stem in ("one", "two"):
        weights(tmp_path / "zoo" / f"{stem}.safetensors", stem)
    source = FolderSource(tmp_path / "zoo")
    assert listed(source) == (["zoo/one", "zoo/two"], [])
    assert tensors(source, "zoo/two") == [("two.safetensors", "two")]


def test_the_revision_is_that_of_the_files(tmp_path: Path) -> None:
    path = weights(tmp_path / "a" / "model.safetensors", "w")
    source = FolderSource(tmp_path)
    first = model(source, "a")
    assert len(first.revision) == 16
    assert model(FolderSource(tmp_path), "a") == first
    (path.parent / ".DS_Store").write_bytes(b"x")
    assert model(source, "a").revision == first.revision
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    second = model(source, "a")
    assert second.revision != first.revision
    assert second.modified_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert second.created_at is None
    (path.parent / "README.md").write_text("x")
    assert model(source, "a").revision != second.revision
    assert model(source, "a").modified_at == second.modified_at


def test_links_are_followed_below_the_source_only(tmp_path: Path) -> None:
    outside = weights(tmp_path / "outside" / "model.safetensors", "secret")
    (tmp_path / "outside" / "README.md").write_text("secret")
    zoo = tmp_path / "zoo"
    weights(zoo / "a" / "model.safetensors", "w")
    for name in ("file", "inner", "broken", "circle"):
        (zoo / name).mkdir()
    (zoo / "file" / "model.safetensors").symlink_to(outside)
    (zoo / "inner" / "model.safetensors").symlink_to("../a/model.safetensors")
    (zoo / "inner" / "README.md").symlink_to(tmp_path / "outside" / "README.md")
    (zoo / "inner" / "again").symlink_to("..")
    (zoo / "broken" / "model.safetensors").symlink_to("none")
    (zoo / "circle" / "model.safetensors").symlink_to("model.safetensors")
    (zoo / "folder").symlink_to(tmp_path / "outside")
    (zoo / "up").symlink_to(zoo)
    (zoo / "out").symlink_to("/")
    source = FolderSource(zoo)
    models, skipped = listed(source)
    assert models == ["a", "inner"]
    assert skipped == [
        ("broken", "broken_link"),
        ("circle", "broken_link"),
        ("file", "link_outside_source"),
        ("inner", "link_outside_source"),
        ("zoo", "link_outside_source"),
        ("zoo", "link_outside_source"),
    ]
    assert tensors(source, "inner") == [("model.safetensors", "w")]
    inner = model(source, "inner")
    assert reason_of(lambda: source.read_text(inner, "README.md", 10)) == "link_outside_source"
    assert reason_of(lambda: source.files(ModelRef("folder", "0"))) == "vanished"
    assert reason_of(lambda: source.files(ModelRef("up/a", "0"))) == "vanished"


def test_a_source_given_as_a_link_is_the_folder_it_leads_to(tmp_path: Path) -> None:
    weights(tmp_path / "zoo" / "a" / "model.safetensors", "w")
    (tmp_path / "link").symlink_to("zoo")
    source = FolderSource(tmp_path / "link")
    assert tensors(source, "a") == [("model.safetensors", "w")]
    assert source.label == f"folder:{tmp_path}/zoo"


@pytest.mark.parametrize("name", [b"a\x1b[2Jb", b"caf\xe9", b"a\nb", "\u202eb".encode()])
def test_a_folder_whose_name_cannot_be_shown_is_told_and_not_entered(tmp_path: Path, name: bytes) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/" + name)  # noqa: PTH102
    with open(os.fsencode(tmp_path) + b"/" + name + b"/model.safetensors", "wb") as file:  # noqa: PTH123
        file.write(b"x")
    weights(tmp_path / "good" / "model.safetensors", "w")
    (skipped, found) = list(FolderSource(tmp_path).models())[::-1]
    assert isinstance(found, ModelRef)
    assert isinstance(skipped, SkippedModel)
    assert skipped.reason == "bad_name"
    assert is_plain(skipped.path or "")
    assert is_plain(skipped.message)


def test_a_weight_file_whose_name_cannot_be_shown_is_told(tmp_path: Path) -> None:
    weights(tmp_path / "a" / "x\x1b.safetensors", "w")
    weights(tmp_path / "b" / "x\x1b.safetensors", "w")
    weights(tmp_path / "b" / "model.safetensors", "w")
    (tmp_path / "b" / "x\x1b.txt").write_text("x")
    assert listed(FolderSource(tmp_path)) == (["b"], [("a", "bad_name"), ("b", "bad_name")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    weights(tmp_path / "a" / "model.safetensors", "w")
    weights(tmp_path / "b" / "model.safetensors", "w")
    (tmp_path / "a").chmod(0)
    try:
        assert listed(FolderSource(tmp_path)) == (["b"], [("a", "unreadable")])
    finally:
        (tmp_path / "a").chmod(0o700)


def test_a_folder_that_fails_is_told_and_the_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights(tmp_path / "a" / "model.safetensors", "w")
    weights(tmp_path / "b" / "model.safetensors", "w")
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", failing)
    assert listed(FolderSource(tmp_path)) == (["b"], [("a", "unreadable")])


def test_a_pipe_is_no_model_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "model.safetensors")
    assert listed(FolderSource(tmp_path)) == ([], [("a", "not_a_file")])


def test_what_goes_between_listing_and_reading_is_told(tmp_path: Path) -> None:
    path = weights(tmp_path / "a" / "model.safetensors", "w")
    (path.parent / "README.md").write_text("x")
    source = FolderSource(tmp_path)
    listed_model = model(source, "a")
    files = source.files(listed_model)
    file = FileRef("model.safetensors", path.stat().st_size)
    path.write_bytes(path.read_bytes() + b"more")
    assert reason_of(lambda: source.open(listed_model, file)) == "changed_while_reading"
    path.unlink()
    assert reason_of(lambda: source.open(listed_model, files[1])) == "vanished"
    assert reason_of(lambda: source.files(listed_model)) == "vanished"
    (path.parent / "README.md").unlink()
    assert source.read_text(listed_model, "README.md", 5) is None
    for name in ("../a", "/etc", "a/..", "", "a//b", "a\x00"):
        assert reason_of(lambda: source.files(ModelRef(name, "0"))) == "vanished"  # noqa: B023


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "sub/README.md", "..", ""])
def test_a_path_that_leads_out_of_the_model_is_refused(tmp_path: Path, path: str) -> None:
    weights(tmp_path / "zoo" / "a" / "model.safetensors", "w")
    (tmp_path / "zoo" / "secret").write_text("x")
    source = FolderSource(tmp_path / "zoo")
    found = model(source, "a")
    assert reason_of(lambda: source.read_text(found, path, 10)) == "bad_name"
    assert reason_of(lambda: source.open(found, FileRef(path, 1))) == "bad_name"


def test_a_source_that_is_no_folder_stops(tmp_path: Path) -> None:
    for path in (tmp_path / "none", weights(tmp_path / "file.safetensors", "w")):
        with pytest.raises(StopError, match="check the path"):
            list(FolderSource(path).models())
        with pytest.raises(StopError, match="check the path"):
            list(CacheSource(path).models())


def test_text_is_cut_at_its_limit_and_read_whatever_it_is(tmp_path: Path) -> None:
    weights(tmp_path / "a" / "model.safetensors", "w")
    (tmp_path / "a" / "README.md").write_bytes(b"ab\xff\xfecd")
    source = FolderSource(tmp_path)
    found = model(source, "a")
    assert source.read_text(found, "README.md", 100) == "ab\ufffd\ufffdcd"
    assert source.read_text(found, "README.md", 2) == "ab"
    assert source.read_text(found, "config.json", 2) is None


def test_a_graph_among_the_models_is_no_model(tmp_path: Path) -> None:
    weights(tmp_path / "a" / "model.safetensors", "w")
    for name in ("LOCK", "CURRENT", "graph-000001.duckdb", "sketches/arch=x/1.parquet"):
        path = tmp_path / "graph" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [item.name for item in FolderSource(tmp_path).models()] == ["a"]
