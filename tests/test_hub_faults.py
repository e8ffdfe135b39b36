"""The Hub as a source when it is busy, breaks off, refuses, changes or is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crawl.hub import HubSource
from crawl.source import FileRef, ModelRef
from scripts.hub_server import HubServer
from scripts.hub_weather import Weather
from store.errors import RetryError, StopError
from tests.hub_models import Asked, Once, read, reason_of

pytestmark = pytest.mark.usefixtures("own_session")


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
        with pytest.raises(RetryError, match=r"429.*attempt 7 of 7") as caught:
            read(reader, 0, 8)
        assert caught.value.wait_s == 20
        assert asked.slept == [20.0] * 6


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
def test_what_the_hub_refuses_is_skipped_with_a_reason(root: Path, answer: Callable[[], Response], reason: str) -> None:
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


def test_an_address_that_has_expired_is_asked_for_again(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()
    with HubServer(root, weather=Weather(0, 1.0, ("expired", "cdn"))) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            assert read(reader, 0, len(content)) == content


def test_a_socket_that_is_stuck_is_left(root: Path) -> None:
    with HubServer(root, weather=Weather(0, 1.0, ("stuck",))) as hub:
        asked = Asked(hub, timeout_s=0.1)
        assert [model.name for model in asked.source.models()] == ["ada/alpha", "bob/beta"]
        assert asked.slept == [1.0, 2.0, 4.0]


def test_a_body_that_breaks_off_again_and_again_is_read_as_long_as_it_grows(root: Path) -> None:
    content = (root / "ada/alpha/model.safetensors").read_bytes()

    def slow(request: Request) -> Response | None:
        if "resolve" not in request.url.path:
            return None
        start, stop = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        piece = content[start : min(stop + 1, start + 70_000)]
        return Response(piece, 206, {"Content-Range": f"bytes {start}-{stop}/{len(content)}"})

    with HubServer(root, faults=slow) as hub:
        asked = Asked(hub)
        model = asked.model()
        with asked.source.open(model, asked.weights(model)) as reader:
            reader.prefetch(0, len(content))
            assert read(reader, 0, len(content)) == content
        assert len(asked.slept) == len(content) // 70_000


def test_another_file_than_the_list_of_files_says_is_told(root: Path) -> None:
    with HubServer(root, weather=Weather(0, 1.0, ("changed",))) as hub:
        asked = Asked(hub)
        model = asked.model()
        reader = asked.source.open(model, asked.weights(model))
        assert reason_of(lambda: read(reader, 0, 8)) == "changed_while_reading"


def test_a_file_that_changes_between_two_openings_is_told(root: Path) -> None:
    def tagged(tag: str) -> Callable[[], Response]:
        return lambda: Response(bytes(10), 206, {"Content-Range": "bytes 0-9/10", "ETag": tag})

    faults = Once("resolve", tagged("one"), tagged("two"), tagged("two"))
    with HubServer(root, faults=faults) as hub:
        asked = Asked(hub)
        model = asked.model()
        file = FileRef("x", 10)
        with asked.source.open(model, file) as reader:
            read(reader, 0, 8)
        with asked.source.open(model, file) as reader:
            assert reason_of(lambda: read(reader, 0, 8)) == "changed_while_reading"
        with asked.source.open(model, file) as reader:
            read(reader, 0, 8)


def test_a_mirror_without_a_list_is_told_what_to_do(root: Path) -> None:
    with (
        HubServer(root, faults=Once("/api/models", lambda: Response(status_code=404))) as mirror,
        HubServer(root) as hub,
    ):
        with pytest.raises(StopError, match="--listing URL"):
            list(Asked(mirror).source.models())
        source = HubSource(mirror.url, listing=hub.url)
        model = next(iter(source.models()))
        assert isinstance(model, ModelRef)
        assert mirror.stats()["requests"] == 1
        assert source.files(model)
        assert (mirror.stats()["requests"], hub.stats()["requests"], source.requests) == (2, 1, 2)
