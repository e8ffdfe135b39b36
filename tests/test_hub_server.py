"""The stand-in Hub, asked by the real client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder
from safetensors.numpy import save_file
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from scripts.hub_server import HubServer

CARD = """---
license: mit
library_name: transformers
tags: [chemistry]
base_model: acme/base
---
# A child
"""


def make_model(root: Path, name: str, card: str | None = None, seconds: int = 1_700_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    weights: dict[str, np.ndarray[Any, Any]] = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(5, np.float16),
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    if card:
        (folder / "README.md").write_text(card)
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven models of two makers, one of them with a folder inside, and a secret beside them."""
    root = tmp_path_factory.mktemp("hub")
    make_model(root, "acme/base")
    child = make_model(root, "acme/child", CARD)
    (child / "onnx").mkdir()
    (child / "onnx" / "big.bin").write_bytes(bytes(range(256)) * 4096)
    for number in range(5):
        make_model(root, f"zoo/m{number}", seconds=1_700_000_000 + number)
    (root / "secret.txt").write_text("secret")
    (root / ".hidden" / "model").mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def hub(root: Path) -> Iterator[HubServer]:
    with HubServer(root, page_size=3) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The client asks huggingface.co for a registry once a day, whatever its endpoint: give it one."""
    registry = tmp_path_factory.mktemp("client") / "registry.json"
    registry.write_text('{"harnesses": {}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "AGENT_HARNESSES_PATH", str(registry), raising=False)
        yield


@pytest.fixture(scope="module")
def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers (lower case), errors included."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}


def raw_get(hub: HubServer, path: str) -> int:
    """The status of a path sent as it is: other clients tidy `..` away before they ask."""
    connection = http.client.HTTPConnection("127.0.0.1", int(hub.url.rsplit(":", 1)[1]))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


ALL = ["acme/base", "acme/child", *(f"zoo/m{number}" for number in range(5))]


def test_listing_follows_pages(api: HfApi, hub: HubServer) -> None:
    hub.reset()
    assert [model.id for model in api.list_models()] == ALL
    assert hub.stats()["requests"] >= 3  # seven models, three a page
    assert [model.id for model in api.list_models(limit=5)] == ALL[:5]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"author": "acme"}, ALL[:2]),
        ({"search": "M3"}, ["zoo/m3"]),
        ({"filter": "base_model:acme/base"}, ["acme/child"]),
        ({"filter": ["chemistry", "license:mit"]}, ["acme/child"]),
        ({"filter": ["chemistry", "license:gpl"]}, []),
        ({"author": "zoo", "sort": "last_modified"}, [f"zoo/m{number}" for number in (4, 3, 2, 1, 0)]),
    ],
)
def test_listing_selects_and_sorts(api: HfApi, query: dict[str, Any], expected: list[str]) -> None:
    assert [model.id for model in api.list_models(**query)] == expected


def test_listing_expands(api: HfApi) -> None:
    [child] = api.list_models(
        search="child",
        expand=["sha", "createdAt", "lastModified", "tags", "cardData", "siblings", "safetensors"],
    )
    assert child.sha
    assert len(child.sha) == 40
    assert child.created_at is not None
    assert child.created_at.timestamp() == 1_700_000_000
    assert child.card_data is not None
    assert child.card_data.base_model == "acme/base"
    assert {"base_model:acme/base", "base_model:finetune:acme/base", "license:mit"} <= set(child.tags or [])
    assert [sibling.rfilename for sibling in child.siblings or []] == [
        "README.md", "config.json", "model.safetensors", "onnx/big.bin",
    ]  # fmt: skip
    assert child.safetensors is not None
    assert child.safetensors.parameters == {"F32": 6, "F16": 5}


def test_model_that_arrives_during_a_listing_shifts_nothing(tmp_path: Path) -> None:
    for name in "bdf":
        make_model(tmp_path, f"org/{name}")
    with HubServer(tmp_path, page_size=1) as server:
        models = iter(HfApi(endpoint=server.url, token=False).list_models())
        seen = [next(models).id]
        make_model(tmp_path, "org/a")
        assert seen + [model.id for model in models] == ["org/b", "org/d", "org/f"]


def test_model_info_has_file_metadata(api: HfApi, root: Path) -> None:
    info = api.model_info("acme/child", files_metadata=True)
    weights = next(s for s in info.siblings or [] if s.rfilename == "model.safetensors")
    assert weights.size == (root / "acme/child/model.safetensors").stat().st_size
    assert weights.lfs is not None
    readme = next(s for s in info.siblings or [] if s.rfilename == "README.md")
    assert readme.lfs is None
    assert info.config == {"model_type": "tiny"}
    assert api.model_info("acme/child", revision=info.sha).sha == info.sha


def test_sha_follows_content_and_not_time(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "org/model")
    with HubServer(tmp_path) as server:
        api = HfApi(endpoint=server.url, token=False)
        before = api.model_info("org/model").sha
        os.utime(folder / "config.json", (1, 1))
        assert api.model_info("org/model").sha == before
        (folder / "config.json").write_text("{}")
        assert api.model_info("org/model").sha != before


def test_tree(api: HfApi) -> None:
    flat = {entry.path: entry for entry in api.list_repo_tree("acme/child")}
    assert isinstance(flat["onnx"], RepoFolder)
    assert "onnx/big.bin" not in flat
    deep = {entry.path: entry for entry in api.list_repo_tree("acme/child", recursive=True)}
    assert set(deep) == {*flat, "onnx/big.bin"}  # five entries over two pages
    big = deep["onnx/big.bin"]
    assert isinstance(big, RepoFile)
    assert big.size == 1 << 20
    [below] = api.list_repo_tree("acme/child", "onnx")
    assert below.path == "onnx/big.bin"
    [info] = api.get_paths_info("acme/child", ["config.json", "absent"])
    assert info.path == "config.json"


def test_download(hub: HubServer, root: Path, tmp_path: Path) -> None:
    path = hf_hub_download("acme/child", "model.safetensors", cache_dir=tmp_path, endpoint=hub.url, token=False)
    assert Path(path).read_bytes() == (root / "acme/child/model.safetensors").read_bytes()


def test_ranges(hub: HubServer, root: Path) -> None:
    url = f"{hub.url}/acme/child/resolve/main/onnx/big.bin"
    content = (root / "acme/child/onnx/big.bin").read_bytes()
    hub.reset()
    status, body, headers = fetch(url, range="bytes=100-299")
    assert (status, body) == (206, content[100:300])
    assert headers["content-range"] == f"bytes 100-299/{len(content)}"
    assert hub.stats()["bytes_sent"] == 200
    assert fetch(url, range="bytes=-16")[1] == content[-16:]
    assert fetch(url, range=f"bytes={len(content) - 4}-")[1] == content[-4:]
    assert fetch(url, range=f"bytes=5-{len(content) * 2}")[1] == content[5:]
    status, _, headers = fetch(url, range=f"bytes={len(content)}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(content)}")


def test_head_and_etag(hub: HubServer, api: HfApi) -> None:
    url = f"{hub.url}/acme/child/resolve/main/onnx/big.bin"
    status, body, headers = fetch(url, "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(1 << 20)
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-repo-commit"] == api.model_info("acme/child").sha
    assert fetch(url, if_none_match=headers["etag"])[0] == 304


def test_what_is_missing(api: HfApi, hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/absent")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("absent")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/base", revision="f" * 40)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("acme/base", "absent.bin", cache_dir=tmp_path, endpoint=hub.url, token=False)
    assert fetch(f"{hub.url}/api/agent-harnesses")[0] == 404
    assert fetch(f"{hub.url}/api/models?expand=nonsense")[0] == 400
    assert fetch(f"{hub.url}/api/models?limit=-1")[0] == 400
    assert fetch(f"{hub.url}/api/models?cursor=nonsense")[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/acme/base/resolve/main/../../secret.txt",
        "/acme/base/resolve/main/..%2F..%2Fsecret.txt",
        "/acme/base/resolve/main/%2e%2e/%2e%2e/secret.txt",
        "/acme/../resolve/main/secret.txt",
        "/../hub/resolve/main/secret.txt",
        "/%2e%2e/%2e%2e/resolve/main/etc/passwd",
        "/acme/base/resolve/main//etc/passwd",
        "/api/models/acme/..",
        "/api/models/../hub",
        "/api/models/acme/base/tree/main/..",
        "/.hidden/model/resolve/main/x",
        "/api/models/.hidden/model",
    ],
)
def test_nothing_outside_is_reachable(hub: HubServer, path: str) -> None:
    assert raw_get(hub, path) == 404


def test_faults_come_first(root: Path) -> None:
    def busy_once(request: Request) -> Response | None:
        asked.append(request.url.path)
        return PlainTextResponse("busy", 503) if len(asked) == 1 else None

    asked: list[str] = []
    with HubServer(root, faults=busy_once) as server:
        url = f"{server.url}/api/models/acme/base"
        assert [fetch(url)[0] for _ in range(3)] == [503, 200, 200]
        assert server.stats()["requests"] == 3


def test_as_a_process(root: Path) -> None:
    command = [sys.executable, "-m", "scripts.hub_server", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert len(json.loads(fetch(f"{url}/api/models")[1])) == 7
            stats = json.loads(fetch(f"{url}/-/stats")[1])
            assert stats["requests"] == 1
            assert stats["bytes_on_disk"] > 1 << 20
            assert json.loads(fetch(f"{url}/-/reset", "POST")[1])["requests"] == 0
        finally:
            process.terminate()
