"""The Hub as a source, against a real server on loopback that fails in the ways that Hubs fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from crawl.hub import HubSource
from crawl.hub_http import problem_of
from crawl.hub_reader import HubReader
from crawl.retry import asked_wait, retrying
from crawl.shards import model_tensors
from crawl.source import FileRef, ModelRef, RangeReader, SkippedModel, Source
from scripts.hub_server import HubServer
from store.errors import ModelkinError, RetryError, SkipError, StopError

NOW = datetime(2024, 1, 1, tzinfo=UTC)
Faults = Callable[[Request], Response | None]


class Once:
    """Answers the first requests to a matching address with one of `answers` each, and then no more."""

    def __init__(self, part: str, *answers: Callable[[], Response]) -> None:
        self.part = part
        self.answers = list(answers)
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Response | None:
        if self.part not in request.url.path:
            return None
        self.seen.append(request)
        return self.answers.pop(0)() if self.answers else None


@pytest.fixture(autouse=True)
def own_session() -> Iterator[None]:
    yield
    huggingface_hub.close_session()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two models: one in one file of 1.2 MB, one in two shards, with cards."""
    rng = np.random.default_rng(0)
    alpha = tmp_path / "ada" / "alpha"
    alpha.mkdir(parents=True)
    save_file({"w": rng.normal(size=(300, 1000)).astype("f4")}, alpha / "model.safetensors")
    (alpha / "README.md").write_text("---\nbase_model: ada/origin\n---\nhello\n")
    beta = tmp_path / "bob" / "beta"
    beta.mkdir(parents=True)
    for shard in (1, 2):
        tensors = {f"w{shard}": np.full((4,), shard, "f4")}
        save_file(tensors, beta / f"model-{shard:05d}-of-00002.safetensors")
    weight_map = {f"w{shard}": f"model-{shard:05d}-of-00002.safetensors" for shard in (1, 2)}
    (beta / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


class Asked:
    """A HubSource over a server, and how long it was asked to sleep."""

    def __init__(self, hub: HubServer, token: str | None = "hf_test") -> None:
        self.slept: list[float] = []
        self.hub = hub
        self.source = HubSource(hub.url, token, sleep=self.slept.append)

    def model(self, name: str = "ada/alpha") -> ModelRef:
        (found,) = [m for m in self.source.models() if isinstance(m, ModelRef) and m.name == name]
        return found

    def weights(self, model: ModelRef) -> FileRef:
        (file,) = [file for file in self.source.files(model) if file.path == "model.safetensors"]
        return file


def read(reader: RangeReader, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    reader.read_into(start, memoryview(buffer))
    return bytes(buffer)


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        call()
    return caught.value.reason


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
                read(reader, at, min(at + 65_536, entry.stop))
                for at in range(entry.start, entry.stop, 65_536)
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
        assert (
            asked.source.read_text(model, "README.md", 10**6) == "---\nbase_model: ada/origin\n---\nhello\n"
        )
        assert asked.source.read_text(model, "config.json", 100) == ""
        assert asked.source.read_text(model, "nothing.md", 100) is None
        assert hub.stats()["requests"] == 4
        assert reason_of(lambda: asked.source.read_text(model, "../../x", 100)) == "bad_name"


@pytest.mark.parametrize("part", ["/api/models", "/tree/", "/resolve/"])
def test_a_rate_limit_is_waited_out(root: Path, part: str) -> None:
    faults = Once(
        part,
        lambda: Response(status_code=429, headers={"Retry-After": "7"}),
        lambda: Response(status_code=503),
        lambda: Response(status_code=429, headers={"RateLimit": '"api";r=0;t=55'}),
    )
    with HubServer(root, faults=faults) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            read(reader, 0, 8)
        assert asked.slept == [7.0, 2.0, 55.0]
        assert asked.source.requests == hub.stats()["requests"]


def test_a_hub_that_stays_busy_is_left_with_what_it_asked_for(root: Path) -> None:
    def busy(request: Request) -> Response | None:
        wait = {"Retry-After": "20"}
        return Response(status_code=429, headers=wait) if "resolve" in request.url.path else None

    with HubServer(root, faults=busy) as hub:
        asked = Asked(hub)
        model = asked.model()
        reader = asked.source.open(model, asked.weights(model))
        with pytest.raises(RetryError, match=r"429.*attempt 5 of 5") as caught:
            read(reader, 0, 8)
        assert caught.value.wait_s == 20
        assert asked.slept == [20.0] * 4


def test_a_body_that_breaks_off_is_taken_up_where_it_broke_off(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()

    def short() -> Response:
        headers = {"Content-Length": "100000", "Content-Range": f"bytes 0-99999/{len(content)}"}
        return Response(content[:5000], 206, headers)

    faults = Once("resolve", short)
    with HubServer(root, faults=faults) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            assert read(reader, 0, 90_000) == content[:90_000]
        assert [request.headers["range"] for request in faults.seen] == ["bytes=0-99999", "bytes=5000-99999"]
        assert len(asked.slept) == 1


def test_a_file_that_changes_between_two_reads_is_told(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()

    def other(etag: str, size: int) -> Callable[[], Response]:
        headers = {"Content-Range": f"bytes 500000-500009/{size}", "ETag": etag}
        return lambda: Response(bytes(10), 206, headers)

    for answer in (other('"another"', len(content)), other("", 7_000_000)):
        faults = Once("resolve")
        with HubServer(root, faults=faults) as hub:
            asked = Asked(hub)
            model = asked.model()
            with asked.source.open(model, asked.weights(model)) as reader:
                read(reader, 0, 8)
                faults.answers.append(answer)
                assert reason_of(lambda: read(reader, 500_000, 500_010)) == "changed_while_reading"


def test_a_server_without_ranges_is_read_no_further_than_needed(root: Path) -> None:
    big = root / "ada/alpha/model.safetensors"
    save_file({"w": np.arange(12_000_000, dtype="f4")}, big)
    content = big.read_bytes()

    def whole(request: Request) -> Response | None:
        return Response(content) if "resolve" in request.url.path else None

    with HubServer(root, faults=whole) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            assert read(reader, 0, 8) == content[:8]
            assert reader.bytes_read < 400_000
            reader.prefetch(300_000, 300_010)
            assert read(reader, 300_000, 300_010) == content[300_000:300_010]
            assert reader.bytes_read < 1_200_000
            assert reason_of(lambda: read(reader, 20_000_000, 20_000_010)) == "no_ranges"
        assert asked.source.read_text(model, "README.md", 50) == content[:50].decode("utf-8", "replace")


def test_the_token_goes_to_the_hub_and_not_where_it_redirects(root: Path) -> None:
    elsewhere: list[Request] = []

    def note(request: Request) -> Response | None:
        elsewhere.append(request)
        return None

    with HubServer(root, faults=note) as store:
        faults = Once(
            "resolve", lambda: RedirectResponse(store.url + "/" + path, headers={"X-Linked-ETag": "a"})
        )
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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: Response(status_code=401), "gated"),
        (lambda: Response(status_code=403, headers={"X-Error-Code": "GatedRepo"}), "gated"),
        (lambda: Response(status_code=401, headers={"X-Error-Code": "RepoNotFound"}), "vanished"),
        (lambda: Response(status_code=404), "vanished"),
        (lambda: Response(status_code=451), "disabled"),
        (lambda: Response(status_code=400), "refused"),
        (lambda: Response(b"<html>"), "bad_answer"),
        (lambda: JSONResponse({"error": "none"}), "bad_answer"),
        (lambda: Response(b"[" * 100_000), "bad_answer"),
        (lambda: Response(b"[]", headers={"Link": '<http://evil.example/?next>; rel="next"'}), "bad_answer"),
        (lambda: Response(b"[]", headers={"Link": '<?recursive=true>; rel="next"'}), "bad_answer"),
    ],
)
def test_what_the_hub_refuses_is_skipped_with_a_reason(
    root: Path, answer: Callable[[], Response], reason: str
) -> None:
    with HubServer(root, faults=Once("/tree/", answer, answer)) as hub:
        asked = Asked(hub)
        model = asked.model()
        assert reason_of(lambda: asked.source.files(model)) == reason


def test_a_model_that_vanishes_after_the_listing_is_skipped(root: Path) -> None:
    with HubServer(root) as hub:
        asked = Asked(hub)
        model = asked.model()
        file = asked.weights(model)
        gone = ModelRef("ada/gone", model.revision)
        moved = ModelRef("ada/alpha", "0" * 40)
        for lost in (gone, moved):
            assert reason_of(lambda: asked.source.files(lost)) == "vanished"  # noqa: B023
            reader = asked.source.open(lost, file)
            assert reason_of(lambda: read(reader, 0, 8)) == "vanished"  # noqa: B023


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


def test_a_hub_that_cannot_be_listed_stops(root: Path) -> None:
    with HubServer(root, faults=Once("/api/models", lambda: Response(status_code=401))) as hub:
        with pytest.raises(StopError, match="gated") as caught:
            list(Asked(hub).source.models())
        url = hub.url
    assert "hf_test" not in str(caught.value)
    slept: list[float] = []
    with pytest.raises(StopError, match=r"connection failed \(ConnectError\)"):
        list(HubSource(url, sleep=slept.append).models())
    assert slept == [1.0, 2.0, 4.0, 8.0]


def test_a_listing_that_breaks_off_is_not_taken_for_whole(root: Path) -> None:
    def second_page(request: Request) -> Response | None:
        return Response(status_code=500) if "cursor" in request.query_params else None

    with HubServer(root, page_size=1, faults=second_page) as hub:
        models = Asked(hub).source.models()
        assert isinstance(next(models), ModelRef)
        with pytest.raises(RetryError, match="broke off after 1 models"):
            next(models)


def test_a_token_that_no_header_can_carry_is_not_shown(root: Path) -> None:
    with HubServer(root) as hub, pytest.raises(StopError) as caught:
        list(HubSource(hub.url, "hf_secret\nX-Other: 1").models())
    assert "secret" not in str(caught.value)


def test_offline_mode_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with HubServer(root) as hub, pytest.raises(StopError, match="HF_HUB_OFFLINE"):
        list(Asked(hub).source.models())


def test_an_answer_that_drips_is_given_up(root: Path) -> None:
    seconds = iter(range(0, 10**9, 400))
    slept: list[float] = []
    with HubServer(root) as hub:
        source = HubSource(hub.url, sleep=slept.append, clock=lambda: float(next(seconds)))
        model = ModelRef("ada/alpha", Asked(hub).model().revision)
        file = FileRef("model.safetensors", (root / "ada/alpha/model.safetensors").stat().st_size)
        reader = source.open(model, file)
        reader.prefetch(0, file.size)
        with pytest.raises(RetryError, match="expected an answer in 600 s"):
            read(reader, 0, file.size)


class Recorded:
    """Ranges of bytes in memory, and which of them were asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.bytes_received = 0

    def fetch(self, start: int, stop: int) -> bytearray:
        self.asked.append((start, stop))
        self.bytes_received += stop - start
        return bytearray(self.content[start:stop])


def test_a_reader_asks_for_the_head_once_and_then_ahead_of_who_reads_on() -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    ranges = Recorded(content)
    reader = HubReader("m", len(content), ranges, head=1000, chunk=1_000_000)
    assert read(reader, 0, 8) + read(reader, 8, 400) == content[:400]
    assert read(reader, 900, 1100) == content[900:1100]
    assert ranges.asked == [(0, 1000), (1000, 1100)]
    step = 1000
    for at in range(1100, 2_900_000, step):
        assert read(reader, at, at + step) == content[at : at + step]
    assert len(ranges.asked) < 10
    assert max(stop - start for start, stop in ranges.asked) == 1_000_000
    assert reader.bytes_read == ranges.bytes_received == sum(b - a for a, b in ranges.asked)
    assert read(reader, 10, 20) == content[10:20]
    assert reason_of(lambda: read(reader, 2_999_999, 3_000_001)) == "truncated"
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        read(reader, 0, 1)


def test_a_buffer_larger_than_a_chunk_is_filled_in_pieces() -> None:
    content = bytes(range(256)) * 100
    ranges = Recorded(content)
    with HubReader("m", len(content), ranges, head=10, chunk=4096) as reader:
        assert read(reader, 100, 20_000) == content[100:20_000]
        reader.prefetch(50, 6000)
        assert read(reader, 50, 6000) == content[50:6000]
        assert read(reader, 7000, 7001) + read(reader, 7001, 7002) == content[7000:7002]
    assert max(stop - start for start, stop in ranges.asked) == 4096
    assert ranges.asked[-4:] == [(50, 4146), (4146, 6000), (7000, 7001), (7001, 7002)]


def test_waiting_follows_what_was_asked() -> None:
    def asked(**headers: str) -> float | None:
        return asked_wait({name.replace("_", "-"): value for name, value in headers.items()}, NOW)

    assert asked() is None
    assert asked(retry_after="12") == 12
    assert asked(retry_after="Mon, 01 Jan 2024 00:01:00 GMT") == 60
    assert asked(retry_after="Mon, 01 Jan 2023 00:01:00 GMT") == 0
    assert asked(retry_after="soon") is None
    assert asked(ratelimit='"resolvers";r=0;t=55') == 55
    assert asked(ratelimit='"resolvers";r=10;t=55') is None


def test_a_wait_that_is_too_long_is_left_to_the_caller() -> None:
    slept: list[float] = []

    def call() -> None:
        raise RetryError("busy", 3600)

    with pytest.raises(RetryError) as caught:
        retrying(call, slept.append)
    assert caught.value.wait_s == 3600
    assert slept == []


@pytest.mark.parametrize(("status", "kind"), [(200, None), (206, None), (429, RetryError), (418, SkipError)])
def test_a_status_means_one_thing(status: int, kind: type[ModelkinError] | None) -> None:
    problem = problem_of(status, {}, "a/b", NOW)
    assert problem is None if kind is None else isinstance(problem, kind)
