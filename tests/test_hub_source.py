"""The Hub as a source, against a real server on loopback that fails in the ways that Hubs fail."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from crawl.hub import HubSource
from crawl.shards import model_tensors
from crawl.source import ModelRef, SkippedModel, Source
from scripts.hub_server import HubServer
from store.errors import StopError
from tests.hub_models import Asked, Once, read, reason_of

pytestmark = pytest.mark.usefixtures("own_session")

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_models_files_and_tensors_are_those_on_disk(root: Path) -> None:
    with HubServer(root, page_size=1) as hub:
        asked = Asked(hub)
        source: Source = asked.source
        models = list(source.models())
        assert [model.name for model in models] == ["ada/alpha", "bob/beta"]
        model = asked.model()
        assert len(model.revision) == 40
        assert model.created_at is not None
        assert model.created_at.tzinfo is UTC
        assert [file.path for file in source.files(model)] == ["README.md", "model.safetensors"]
        assert source.label == f"hub:{hub.url}"
        assert source.remote
        beta = asked.model("bob/beta")
        assert [(file.path[:11], entry.name) for file, entry in model_tensors(source, beta)] == [
            ("model-00001", "w1"),
            ("model-00002", "w2"),
        ]
        assert source.requests == hub.stats()["requests"]


def test_author_search_and_limit_narrow_the_list(root: Path) -> None:
    with HubServer(root, page_size=1) as hub:

        def names(source: HubSource) -> list[str]:
            return [model.name for model in source.models()]

        assert names(HubSource(hub.url, author="bob")) == ["bob/beta"]
        assert names(HubSource(hub.url, search="alp")) == ["ada/alpha"]
        assert names(HubSource(hub.url, limit=1)) == ["ada/alpha"]
        assert names(HubSource(hub.url, filter="base_model:ada/origin")) == ["ada/alpha"]


def test_the_environment_names_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@hub.example/")
    assert HubSource().label == "hub:http://hub.example"
    monkeypatch.delenv("HF_ENDPOINT")
    assert HubSource().label == "hub:https://huggingface.co"
    for wrong in ("file:///etc", "hub.example", "http://[", "https://"):
        with pytest.raises(StopError):
            HubSource(wrong)


def test_the_header_costs_one_request_and_streaming_few(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()
    with HubServer(root) as hub:
        asked = Asked(hub)
        model = asked.model()
        hub.reset()
        ((file, entry),) = model_tensors(asked.source, model, asked.source.files(model))
        assert hub.stats()["requests"] == 2
        hub.reset()
        with asked.source.open(model, file) as reader:
            got = b"".join(
                read(reader, at, min(at + 65_536, entry.stop)) for at in range(entry.start, entry.stop, 65_536)
            )
        assert got == content[entry.start : entry.stop]
        assert hub.stats()["requests"] < 9
        assert reader.bytes_read == hub.stats()["bytes_sent"]


def test_an_announced_range_is_all_that_is_fetched(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()
    with HubServer(root) as hub:
        asked = Asked(hub)
        model = asked.model()
        file = asked.weights(model)
        hub.reset()
        with asked.source.open(model, file) as reader:
            reader.prefetch(200_000, 500_000)
            got = b"".join(read(reader, at, at + 50_000) for at in range(200_000, 500_000, 50_000))
            assert got == content[200_000:500_000]
            assert hub.stats() | {"bytes_on_disk": 0} == {
                "requests": 1,
                "bytes_sent": 300_000,
                "bytes_on_disk": 0,
            }
            assert read(reader, 600_000, 600_010) == content[600_000:600_010]
        assert hub.stats()["bytes_sent"] == 300_010


def test_a_text_file_costs_one_request_and_no_more_than_its_limit(root: Path) -> None:
    (root / "ada/alpha/config.json").write_bytes(b"")
    with HubServer(root) as hub:
        asked = Asked(hub)
        model = asked.model()
        hub.reset()
        assert asked.source.read_text(model, "README.md", 12) == "---\nbase_mod"
        assert asked.source.read_text(model, "README.md", 10**6) == "---\nbase_model: ada/origin\n---\nhello\n"
        assert asked.source.read_text(model, "config.json", 100) == ""
        assert asked.source.read_text(model, "nothing.md", 100) is None
        assert hub.stats()["requests"] == 4
        assert reason_of(lambda: asked.source.read_text(model, "../../x", 100)) == "bad_name"


def test_the_token_goes_to_the_hub_and_not_where_it_redirects(root: Path) -> None:
    elsewhere: list[Request] = []

    def note(request: Request) -> Response | None:
        elsewhere.append(request)
        return None

    with HubServer(root, faults=note) as store:
        faults = Once("resolve", lambda: RedirectResponse(store.url + "/" + path, headers={"X-Linked-ETag": "a"}))
        with HubServer(root, faults=faults) as hub:
            asked = Asked(hub)
            model = asked.model()
            path = f"ada/alpha/resolve/{model.revision}/model.safetensors"
            before = asked.source.requests
            with asked.source.open(model, asked.weights(model)) as reader:
                read(reader, 0, 8)
            assert asked.source.requests - before == 3
    assert faults.seen[0].headers["authorization"] == "Bearer hf_test"
    assert elsewhere[0].headers["range"] == "bytes=0-99999"
    assert "authorization" not in elsewhere[0].headers


def test_rows_of_a_listing_that_are_no_models_are_told(root: Path) -> None:
    rows = [
        {"id": "../../etc/passwd", "sha": "0" * 40},
        {"id": "a/b\x1b[2J", "sha": "0" * 40},
        {"id": 7},
        "text",
        {
            "id": "good/name",
            "sha": "0" * 40,
            "createdAt": "never",
            "lastModified": "2024-01-01T00:00:00.000Z",
        },
        {"id": "good/name", "sha": "0" * 40},
        {"id": "good/other", "sha": "main"},
        {"id": "ada/alpha"},
        {"id": "no/such"},
    ]
    answer = Once("/api/models", lambda: JSONResponse(rows))
    with HubServer(root, faults=answer) as hub:
        found = list(Asked(hub).source.models())
    assert found[3] == ModelRef("good/name", "0" * 40, None, NOW)
    told = [(item.name, item.reason) for item in found if isinstance(item, SkippedModel)]
    assert told == [
        ("../../etc/passwd", "bad_name"),
        ("a/b\\x1b[2J", "bad_name"),
        ("?", "bad_name"),
        ("good/other", "no_revision"),
        ("no/such", "vanished"),
    ]
    assert [item.name for item in found if isinstance(item, ModelRef)] == ["good/name", "ada/alpha"]
