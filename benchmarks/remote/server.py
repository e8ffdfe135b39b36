"""The Hub's addresses for reading, over repositories in memory: little code a request, to measure who asks."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.remote.models import Repository

__all__ = ["Serving", "serving"]

_REQUEST = re.compile(rb"GET (\S+) HTTP/1.1\r\n")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server: its address, and how to ask its process for its counts."""

    url: str
    _pipe: Any

    def set(self, latency: float) -> None:
        """Seconds that each answer waits from now on; counts begin again."""
        self._pipe.send(latency)
        self._pipe.recv()

    def counts(self) -> dict[str, int]:
        """`requests` answered and `bytes_sent`, bodies alone, since `set`."""
        self._pipe.send(None)
        found: dict[str, int] = self._pipe.recv()
        return found


@contextmanager
def serving(make: Callable[..., Sequence[Repository]], *arguments: Any) -> Iterator[Serving]:
    """Serve `make(*arguments)` on loopback, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, make, arguments), daemon=True)
    process.start()
    try:
        yield Serving(f"http://127.0.0.1:{here.recv()}", here)
    finally:
        process.kill()
        process.join()


def _run(pipe: Connection, make: Callable[..., Sequence[Repository]], arguments: tuple[Any, ...]) -> None:
    asyncio.run(_serve(pipe, _State({repository.name: repository for repository in make(*arguments)})))


class _State:
    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.names = sorted(repositories)
        self.latency = 0.0
        self.requests = 0
        self.bytes_sent = 0


async def _serve(pipe: Connection, state: _State) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(state, loop), "127.0.0.1", 0, backlog=256)
    pipe.send(server.sockets[0].getsockname()[1])

    def asked() -> None:
        message = pipe.recv()
        if message is not None:
            state.latency, state.requests, state.bytes_sent = message, 0, 0
        pipe.send({"requests": state.requests, "bytes_sent": state.bytes_sent})

    loop.add_reader(pipe.fileno(), asked)
    await server.serve_forever()


class _Protocol(asyncio.Protocol):
    def __init__(self, state: _State, loop: asyncio.AbstractEventLoop) -> None:
        self._state, self._loop = state, loop
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            request, self._received = self._received[: end + 4], self._received[end + 4 :]
            head, body = _answer(request, self._state)
            self._state.requests += 1
            self._state.bytes_sent += len(body)
            if self._state.latency:
                self._loop.call_later(self._state.latency, self._transport.writelines, (head, body))
            else:
                self._transport.writelines((head, body))


def _answer(request: bytes, state: _State) -> tuple[bytes, bytes]:
    match = _REQUEST.match(request)
    address = urlsplit(match[1].decode() if match else "/")
    parts = unquote(address.path).strip("/").split("/")
    if parts[:2] == ["api", "models"]:
        return _listed(state, address.query) if len(parts) == 2 else _tree(state, "/".join(parts[2:4]))
    if len(parts) >= 5 and parts[2] == "resolve":
        return _file(state, "/".join(parts[:2]), "/".join(parts[4:]), request)
    return _whole(b"404 Not Found", b"{}")


def _listed(state: _State, query: str) -> tuple[bytes, bytes]:
    asked = parse_qs(query)
    first = int(asked.get("cursor", ["0"])[0])
    rows = [_row(state.repositories[name], asked.get("expand", [])) for name in state.names[first : first + PAGE]]
    more = b""
    if first + PAGE < len(state.names):
        kept = "&".join(f"expand={field}" for field in asked.get("expand", []))
        more = f'Link: </api/models?{kept}&cursor={first + PAGE}>; rel="next"\r\n'.encode()
    return _whole(b"200 OK", json.dumps(rows).encode(), more)


def _row(repository: Repository, expand: Sequence[str]) -> dict[str, Any]:
    fields = {
        "sha": repository.sha,
        "createdAt": repository.created,
        "lastModified": repository.created,
        "cardData": dict(repository.card),
        "siblings": [{"rfilename": path} for path in sorted(repository.files)],
        "author": repository.name.split("/")[0],
        "tags": [],
    }
    return {"id": repository.name} | {field: fields[field] for field in expand if field in fields}


def _tree(state: _State, name: str) -> tuple[bytes, bytes]:
    repository = state.repositories.get(name)
    if repository is None:
        return _whole(b"404 Not Found", b"{}")
    rows = [{"type": "file", "path": path, "size": file.size} for path, file in sorted(repository.files.items())]
    return _whole(b"200 OK", json.dumps(rows).encode())


def _file(state: _State, name: str, path: str, request: bytes) -> tuple[bytes, bytes]:
    file = state.repositories[name].files.get(path) if name in state.repositories else None
    if file is None:
        return _whole(b"404 Not Found", b"")
    found = _RANGE.search(request)
    start, stop = (int(found[1]), min(int(found[2]) + 1, file.size)) if found else (0, file.size)
    if start >= stop:
        return _whole(b"416 Range Not Satisfiable", b"", f"Content-Range: bytes */{file.size}\r\n".encode())
    body = file.read(start, stop)
    more = f'ETag: "{name}/{path}"\r\nContent-Range: bytes {start}-{stop - 1}/{file.size}\r\n'
    return _whole(b"206 Partial Content", body, more.encode())


def _whole(status: bytes, body: bytes, more: bytes = b"") -> tuple[bytes, bytes]:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, more, len(body)), body
