"""Bad weather for the loopback Hub: a share of its answers goes wrong in the ways that answers of Hubs go wrong.

What goes wrong follows from the seed, the request and how often it was made before, not from the order of requests:
the same crawl meets the same weather on any number of threads. What is asked again and again gets through at last.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["FILES", "KINDS", "Weather"]

KINDS: Final = ("limit", "window", "gateway", "reset", "stuck")
"""What any request meets: 429 with Retry-After or RateLimit, 5xx, a connection that ends in mid-answer, silence."""

FILES: Final = (*KINDS, "cut", "whole", "cdn", "expired", "changed")
"""What a file's bytes meet too: too small a Content-Length, the whole file instead of a range, a redirect to a signed
address, to one that has expired, and another file of the same name."""

MOST_IN_A_ROW: Final = 3
CDN: Final = "/cdn-lfs/"


class Weather:
    """Bad answers for the share `rate` of requests, of the `kinds` named; `stuck_s` is how long silence lasts."""

    def __init__(self, seed: int, rate: float = 0.2, kinds: Sequence[str] = FILES, stuck_s: float = 60.0) -> None:
        self.seed, self.rate, self.stuck_s = seed, rate, stuck_s
        self.kinds = tuple(kinds)
        self.met: Counter[str] = Counter()
        """How often each kind was met."""
        self._asked: Counter[str] = Counter()
        self._in_a_row: defaultdict[str, int] = defaultdict(int)

    def over(self, app: ASGIApp) -> ASGIApp:
        """`app` in this weather."""

        async def weathered(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            path = request.url.path
            if path.startswith("/-/"):
                await app(scope, receive, send)
                return
            if path.startswith(CDN):
                await self._cdn(app, scope, receive, send)
                return
            kind = self._kind(request)
            self.met[kind] += 1
            await self._answer(kind, app, request, send)

        return weathered

    def _kind(self, request: Request) -> str:
        key = f"{request.method} {request.url.path}?{request.url.query} {request.headers.get('range', '')}"
        self._asked[key] += 1
        chance = Random(f"{self.seed} {key} {self._asked[key]}")
        kinds = [kind for kind in self.kinds if kind in KINDS or "/resolve/" in request.url.path]
        if not kinds or self._in_a_row[key] >= MOST_IN_A_ROW or chance.random() >= self.rate:
            self._in_a_row[key] = 0
            return "fair"
        self._in_a_row[key] += 1
        return chance.choice(kinds)

    async def _answer(self, kind: str, app: ASGIApp, request: Request, send: Send) -> None:
        scope, receive = request.scope, request.receive
        bucket = "api" if request.url.path.startswith("/api/") else "resolvers"
        if kind == "limit":
            await Response(status_code=429, headers={"Retry-After": "1"})(scope, receive, send)
        elif kind == "window":
            await Response(status_code=429, headers={"RateLimit": f'"{bucket}";r=0;t=1'})(scope, receive, send)
        elif kind == "gateway":
            status = (500, 502, 503, 504)[self._asked.total() % 4]
            await Response("<html>bad gateway</html>", status)(scope, receive, send)
        elif kind == "stuck":
            await asyncio.wait([asyncio.ensure_future(self._hung_up(receive))], timeout=self.stuck_s)
        elif kind in ("reset", "cut", "changed"):
            await app(scope, receive, _Altered(kind, send))
        elif kind == "whole":
            headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
            await app({**scope, "headers": headers}, receive, send)
        elif kind in ("cdn", "expired"):
            # Another host, as far as a client can tell.
            target = f"http://localhost:{request.url.port}{CDN}{kind}{quote(request.url.path)}"
            await RedirectResponse(target, 302)(scope, receive, send)
        else:
            await app(scope, receive, send)

    async def _cdn(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        sign, _, path = scope["path"].removeprefix(CDN).partition("/")
        if sign == "expired":
            await Response("<Error><Code>AccessDenied</Code></Error>", 403)(scope, receive, send)
        else:
            await app({**scope, "path": f"/{path}"}, receive, send)

    @staticmethod
    async def _hung_up(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class _Altered:
    """Passes an answer on, but not as it is."""

    def __init__(self, kind: str, send: Send) -> None:
        self._kind, self._send = kind, send
        self._left: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            length = int(headers.get(b"content-length", b"0"))
            if self._kind == "changed":
                headers[b"etag"] = b'"%s"' % (b"e" * (len(headers.get(b"etag", b"")) - 2))
                headers.pop(b"x-linked-etag", None)
            else:
                self._left = length // 2
                if self._kind == "cut":
                    headers[b"content-length"] = b"%d" % self._left
            await self._send({**message, "headers": list(headers.items())})
            return
        body = message.get("body", b"")
        if self._kind == "changed":
            await self._send({**message, "body": bytes(len(body))})
        elif self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            # A reset ends before the body does: the server then closes the connection.
            whole = self._kind == "cut" and not self._left
            await self._send({**message, "body": body, "more_body": not whole})
            self._left = None if whole else self._left
