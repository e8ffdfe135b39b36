"""A Hub on loopback: serves a folder `org/name/files` the way huggingface.co serves models, for reading.

    python -m scripts.hub_server ROOT --port 8000 [--weather SEED]

    with HubServer(root) as hub:
        HfApi(endpoint=hub.url).list_models()

Beside the Hub's own addresses there are `GET /-/stats` and `POST /-/reset`, which count what was sent.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scripts.hub_routes import HubRoutes, answer_error
from scripts.hub_weather import Weather

__all__ = ["Faults", "HubServer", "main"]

Faults = Callable[[Request], Response | None]


class Counted:
    """Counts requests and the bytes of bodies, and lets a fault take the place of an answer."""

    def __init__(self, app: ASGIApp, faults: Faults | None) -> None:
        self.app = app
        self.faults = faults
        self.requests = 0
        self.bytes_sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self.app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if scope["method"] != "HEAD":  # first, so that whoever has the bytes finds them counted
                self.bytes_sent += len(message.get("body", b""))
            await send(message)

        self.requests += 1
        fault = self.faults(Request(scope, receive)) if self.faults else None
        await (fault or self.app)(scope, receive, count)


class HubServer:
    """A Hub over `root`, in a thread of its own inside its context. Port 0 takes a free one.

    `faults` sees every request first and may answer in the Hub's place, with a new Response each time; `weather`
    spoils some of the answers.
    """

    def __init__(
        self,
        root: Path | str,
        port: int = 0,
        *,
        page_size: int = 1000,
        faults: Faults | None = None,
        weather: Weather | None = None,
    ) -> None:
        self.hub = HubRoutes(Path(root), page_size)
        own = [Route("/-/stats", self.show_stats), Route("/-/reset", self.clear, methods=["POST"])]
        app = Starlette(routes=[*own, *self.hub.routes], exception_handlers={HTTPException: answer_error})
        self.counted = Counted(weather.over(app) if weather else app, faults)
        # Named as TCP, because asyncio turns Nagle's delay off only then: 1 ms an answer instead of 40.
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(128)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        # Answers that end in the middle are what weather is about.
        level = "critical" if weather else "warning"
        config = uvicorn.Config(self.counted, log_level=level, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.run, name="hub-server", daemon=True)

    def run(self) -> None:
        """Serve until told to stop: for a process of its own."""
        try:
            self.server.run(sockets=[self.socket])
        finally:
            self.socket.close()

    def __enter__(self) -> Self:
        # The socket listens already, so a request that comes before the loop runs waits in its queue.
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self.thread.join()

    def stats(self) -> dict[str, int]:
        """Requests and body bytes since the last reset, and the size of everything that is served."""
        return {
            "requests": self.counted.requests,
            "bytes_sent": self.counted.bytes_sent,
            "bytes_on_disk": self.hub.repositories.bytes_on_disk(),
        }

    def reset(self) -> None:
        """Count from zero again."""
        self.counted.requests = self.counted.bytes_sent = 0

    def show_stats(self, request: Request) -> Response:
        return JSONResponse(self.stats())

    def clear(self, request: Request) -> Response:
        self.reset()
        return JSONResponse(self.stats())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Serve a folder org/name/files as a Hub, on loopback.")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--weather", type=int, metavar="SEED", help="spoil answers, which ones follows from the seed")
    parser.add_argument("--rate", type=float, default=0.2, help="the share of answers to spoil")
    options = parser.parse_args(arguments)
    if not options.root.is_dir():
        parser.error(f"{options.root} is not a folder")
    weather = None if options.weather is None else Weather(options.weather, options.rate)
    server = HubServer(options.root, options.port, weather=weather)
    print(server.url, flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
