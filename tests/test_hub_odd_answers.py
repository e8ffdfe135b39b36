"""Answers of a Hub that no Hub gives: addresses that lead nowhere, numbers that no table holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crawl.hub import HubSource
from crawl.source import ModelRef
from scripts.hub_server import HubServer
from store.errors import RetryError, StopError
from tests.hub_models import Asked, Once, read, reason_of

pytestmark = pytest.mark.usefixtures("own_session")


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b", "[bad", "localhost:99999"])
def test_an_address_that_no_socket_takes_is_a_failed_connection(root: Path, host: str) -> None:
    def elsewhere(request: Request) -> Response | None:
        headers = {"Location": f"http://{host}/x"}
        return Response(status_code=302, headers=headers) if "resolve" in request.url.path else None

    with HubServer(root, faults=elsewhere) as hub:
        asked = Asked(hub)
        model = asked.model()
        reader = asked.source.open(model, asked.weights(model))
        with pytest.raises(RetryError, match="the connection failed"):
            read(reader, 0, 8)


@pytest.mark.parametrize("address", ["/api/models?x=" + "y" * 70_000, "/api/models?\x80", "//", "http://[bad"])
def test_a_next_page_of_no_address_is_told(root: Path, address: str) -> None:
    def endless(request: Request) -> Response | None:
        link = {"Link": f'<{address}>; rel="next"'}
        return JSONResponse([{"id": "ada/alpha", "sha": "a" * 40}], headers=link)

    with HubServer(root, faults=endless) as hub, pytest.raises(StopError, match="cannot be listed"):
        list(Asked(hub).source.models())


def test_numbers_that_no_table_holds(root: Path) -> None:
    row = {"id": "ada/alpha", "sha": "a" * 40, "downloads": 10**30}
    file = {"type": "file", "path": "model.safetensors", "size": 10**30}
    faults = Once("/api/models", lambda: JSONResponse([row]), lambda: JSONResponse([file]))
    with HubServer(root, faults=faults) as hub:
        asked = Asked(hub)
        (page,) = asked.source.pages("createdAt")
        assert page.models[0].downloads is None
        assert asked.source.files(ModelRef("ada/alpha", "a" * 40)) == []
    for size in (2**63, 10**18 * 9 + 10**18 // 2):
        whole = {"Content-Range": f"bytes 0-7/{size}"}
        with HubServer(root, faults=Once("resolve", lambda: Response(bytes(8), 206, whole))) as hub:  # noqa: B023
            source = HubSource(hub.url)
            assert reason_of(lambda: source.read_text(ModelRef("ada/alpha", "a" * 40), "x", 8)) == "bad_answer"  # noqa: B023
