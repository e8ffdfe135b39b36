"""Folders and caches as sources of models, and the rule of which files are a model's weights."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.folder import FolderSource
from crawl.hfcache import CacheSource, is_cache
from crawl.layout import is_weight, weight_files
from crawl.names import escaped, is_plain, is_plain_path, is_repo_name
from crawl.shards import model_tensors, read_index
from crawl.source import FileRef, ModelRef, RangeReader, SkippedModel, Source
from store.errors import SkipError, StopError

SHA = "0123456789abcdef0123456789abcdef01234567"


def weights(path: Path, *tensors: str) -> Path:
    """A safetensors file of tensors of two float32 each."""
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]}
        for i, name in enumerate(tensors)
    }
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(8 * len(tensors)))
    return path


def index(path: Path, **placed: str) -> Path:
    path.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return path


def listed(source: Source) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of the models, and (name, reason) of the rest."""
    items = list(source.models())
    models = [item.name for item in items if isinstance(item, ModelRef)]
    skipped = [(item.name, item.reason) for item in items if isinstance(item, SkippedModel)]
    for item in items:
        assert is_plain(item.name)
        assert isinstance(item, ModelRef) or is_plain(item.message)
    return models, skipped


def model(source: Source, name: str) -> ModelRef:
    (found,) = [item for item in source.models() if isinstance(item, ModelRef) and item.name == name]
    return found


def tensors(source: Source, name: str) -> list[tuple[str, str]]:
    return [(file.path, entry.name) for file, entry in model_tensors(source, model(source, name))]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        call()
    assert is_plain(str(caught.value))
    return caught.value.reason


def groups(*paths: str) -> dict[str, list[str]]:
    return {g.stem: [g.index] if g.index else list(g.files) for g in weight_files(paths)}


# ---- which files are the weights


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["model.safetensors"], {"model": ["model.safetensors"]}),
        (["model.safetensors", "model.fp16.safetensors", "x.safetensors"], {"model": ["model.safetensors"]}),
        (["weights.safetensors", "README.md", "x.bin"], {"weights": ["weights.safetensors"]}),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            {"model": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]},
        ),
        (
            ["model-00001-of-00001.safetensors", "model.safetensors.index.json", "consolidated.safetensors"],
            {"model": ["model.safetensors.index.json"]},
        ),
        (["x.safetensors.index.json", "a.safetensors", "b.safetensors"], {"x": ["x.safetensors.index.json"]}),
        (
            ["a.safetensors", "b-00001-of-00001.safetensors", "adapter_model.safetensors"],
            {"a": ["a.safetensors"], "b": ["b-00001-of-00001.safetensors"]},
        ),
        (["net.safetensors", "net.fp16.safetensors"], {"net": ["net.safetensors"]}),
        (["n.one.safetensors", "n.safetensors"], {"n": ["n.safetensors"], "n.one": ["n.one.safetensors"]}),
        (["model.fp16.safetensors"], {"model.fp16": ["model.fp16.safetensors"]}),
        (
            ["m-00001-of-00001.safetensors", "m-00001-of-00001.fp16.safetensors"],
            {"m": ["m-00001-of-00001.safetensors"]},
        ),
        (
            ["m-00001-of-00001.safetensors", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
            {
                "m-of-00001": ["m-00001-of-00001.safetensors"],
                "m-of-00002": ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
            },
        ),
        (["a/u.safetensors", "b/v.safetensors"], {"a/u": ["a/u.safetensors"], "b/v": ["b/v.safetensors"]}),
        (["model.safetensors", "onnx/model.onnx", "sub/model.safetensors"], {"model": ["model.safetensors"]}),
        (["x.bin", "sub/model.safetensors"], {"sub/model": ["sub/model.safetensors"]}),
    ],
)
def test_the_weights_among_the_files(paths: list[str], expected: dict[str, list[str]]) -> None:
    assert groups(*paths) == expected
    assert groups(*reversed(paths)) == expected


def test_shards_that_the_names_promise_are_named_when_missing() -> None:
    (group,) = weight_files(["m-00002-of-00003.safetensors"])
    assert group.missing == ("m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors")
    (group,) = weight_files(["m-00000-of-00002.safetensors", "m-00001-of-00002.safetensors"])
    assert group.missing == ()
    (group,) = weight_files(["m-00001-of-99999.safetensors"])
    assert len(group.missing) == 16


@pytest.mark.parametrize(
    ("paths", "reason", "named"),
    [
        ([], "no_weights", "no files"),
        (["README.md", "config.json", "training_args.bin", "tokenizer.json"], "no_weights", "README.md"),
        (["adapter_model.safetensors", "adapter_config.json"], "unsupported_format", "PEFT adapter"),
        (["pytorch_model.bin", "README.md"], "unsupported_format", "pytorch_model.bin"),
        *(
            ([f"m.{kind}"], "unsupported_format", ".safetensors")
            for kind in ("pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack")
        ),
    ],
)
def test_files_without_readable_weights(paths: list[str], reason: str, named: str) -> None:
    with pytest.raises(SkipError, match=named) as caught:
        weight_files(paths)
    assert caught.value.reason == reason


@given(
    st.lists(
        st.sampled_from("a b model m.fp16 m-00001-of-00002 m-00002-of-00002 s/x adapter_model".split()),
        max_size=6,
    )
)
def test_the_rule_uses_each_file_once_at_most(stems: list[str]) -> None:  # fmt: skip
    paths = [f"{stem}.safetensors" for stem in stems]
    if all("adapter" in stem for stem in stems):
        assert reason_of(lambda: weight_files(paths)) in {"no_weights", "unsupported_format"}
        return
    used = [path for group in weight_files(paths) for path in group.files]
    assert len(used) == len(set(used)) > 0
    assert set(used) <= set(paths)
    assert all(is_weight(path) for path in used)


# ---- names


def test_names_that_can_be_stored_and_shown() -> None:
    for good in ("a", "a b", "é", "模型", "a/b-c_d.e"):
        assert is_plain(good)
        assert escaped(good) == good
    for bad in (
        "",
        "a\nb",
        "a\x1b[31m",
        "\udcff",
        "\ud800",
        "a\u2028b",
        "\u202egnp.exe",
        "x" * 1025,
        "a\x00",
        "\x9b",
    ):
        assert not is_plain(bad)
    assert escaped("a\x1b[2J\udcff\ud800\n\u202e") == "a\\x1b[2J\\xff\\ud800\\n\\u202e"
    assert len(escaped("x" * 10_000)) == 200
    for bad in ("../a", "/a", "a//b", "a/./b", "a/", "a\\b", "..", ""):
        assert not is_plain_path(bad)
    for repo in ("gpt2", "org/name", "a/b.c-d_e", "a" * 96):
        assert is_repo_name(repo)
    for bad in (
        "",
        "a/b/c",
        "a--b",
        "a..b",
        "../a",
        "-a",
        "a-",
        ".a",
        "a/.b",
        "a.git",
        "a\n",
        "é",
        "a" * 97,
        "a/",
        "a./b",
    ):
        assert not is_repo_name(bad)


@given(st.text(st.characters(), max_size=300))
def test_an_escaped_name_is_plain(name: str) -> None:
    assert is_plain(escaped(name) or "x")


# ---- folders


def test_each_folder_that_holds_weights_is_a_model(tmp_path: Path) -> None:
    weights(tmp_path / "zoo" / "a" / "model.safetensors", "w")
    weights(tmp_path / "zoo" / "a" / "child" / "model.safetensors", "w")
    weights(tmp_path / "zoo" / "b" / "c" / "other.safetensors", "w")
    (tmp_path / "zoo" / "old").mkdir()
    (tmp_path / "zoo" / "old" / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "zoo" / "card").mkdir()
    (tmp_path / "zoo" / "card" / "README.md").write_text("x")
    (tmp_path / "zoo" / "empty").mkdir()
    weights(tmp_path / "zoo" / "lora" / "adapter_model.safetensors", "w")
    weights(tmp_path / "zoo" / ".cache" / "x" / "model.safetensors", "w")
    source: Source = FolderSource(tmp_path / "zoo")
    assert listed(source) == (
        ["a", "a/child", "b/c"],
        [
            ("card", "no_weights"),
            ("empty", "no_weights"),
            ("lora", "unsupported_format"),
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


def test_a_folder_that_fails_is_told_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


# ---- several files


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
def test_shards_that_do_not_fit_together_are_told(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
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


# ---- the cache


def cached(root: Path, name: str, revision: str = SHA, *, main: str | None = None) -> Path:
    """A repository in the cache with one snapshot, whose weights are a link into blobs. Returns the snapshot."""
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
