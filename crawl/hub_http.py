"""Requests to a Hub over huggingface_hub's session: retried, timed and counted.

The lists are fetched here and not by `HfApi`: its calls have no time-out and sleep by themselves, so that a
Hub that stalls would hold a nightly run for good. Nor are its headers used, as building them asks a third
address which program is running. huggingface_hub is imported when the first request is made.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from crawl.names import escaped
from crawl.retry import Sleep, asked_wait, retrying
from store.errors import ModelkinError, RetryError, SkipError, StopError

__all__ = ["HubHttp", "problem_of"]

TIMEOUT_S = 30.0
"""For the connection and for each piece of an answer."""

LONGEST_ANSWER_S = 600.0
"""For one whole answer: a server that drips a byte a second never times out."""

MAX_PAGE = 64 * 2**20

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class HubHttp:
    """One Hub: its address, the token, and what it has cost so far. Safe to share between threads.

    `token` None takes the one of the environment or of `hf auth login`; it is in no message. `sleep` takes
    seconds, `clock` gives monotonic seconds, `now` the time in UTC.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        sleep: Sleep,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.sleep, self.clock, self.now = sleep, clock, now
        self.requests = 0
        self.bytes_received = 0
        self._token = token
        self._lock = threading.Lock()

    def rows(self, path: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of a list that may come in pages, which are asked for one at a time.

        Raises what `problem_of` says and SkipError("bad_answer", ...) when it is no list.
        """
        url: str | None = self.endpoint + path
        asked: Mapping[str, Any] | None = parameters
        seen: set[str] = set()
        while url is not None:
            if url in seen or urlsplit(url)[:2] != urlsplit(self.endpoint)[:2]:
                # The token goes with each request, so it matters where the Hub sends us.
                raise SkipError("bad_answer", f"{self.endpoint}{path}: expected a next page on the same Hub")
            seen.add(url)
            page, url = self.json(url, asked)
            asked = None
            if not isinstance(page, list):
                raise SkipError("bad_answer", f"{self.endpoint}{path}: expected a list, found {type(page).__name__}")
            yield from (row for row in page if isinstance(row, dict))

    def json(self, url: str, parameters: Mapping[str, Any] | None = None) -> tuple[Any, str | None]:
        """A JSON answer and the address of the next page. Raises as `rows` does."""

        def ask() -> tuple[Any, str | None]:
            content = bytearray()
            with self.stream(url, url, {}, parameters) as response:
                self.check(response, url)
                for piece in response.iter_bytes():
                    self.count(len(piece))
                    content += piece
                    if len(content) > MAX_PAGE:
                        raise SkipError("bad_answer", f"{url}: expected at most {MAX_PAGE} bytes of JSON")
                following = response.links.get("next", {}).get("url")
            return json.loads(content), urljoin(url, following) if following else None

        try:
            return retrying(ask, self.sleep)
        except (ValueError, RecursionError) as error:
            raise SkipError("bad_answer", f"{url}: expected JSON, found {escaped(str(error))}") from error

    @contextmanager
    def stream(
        self, url: str, shown: str, headers: Mapping[str, str], parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Any]:
        """An answer whose body is not read yet; redirects are followed, and the token stays with this host.

        Raises RetryError when the network fails, then or while the body is read.
        """
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

        begun = self.clock()
        every_header = {**self._headers(), **headers}
        requests = 1
        try:
            with get_session().stream(
                "GET",
                url,
                params=parameters,
                headers=every_header,
                timeout=TIMEOUT_S,
                follow_redirects=True,
            ) as response:
                requests += len(response.history)
                yield _Timed(response, shown, begun, self.clock)
        except OfflineModeIsEnabled as error:
            raise StopError(f"{self.endpoint} cannot be asked: HF_HUB_OFFLINE is set") from error
        except HTTPError as error:
            # Its own message may hold a signed address.
            raise RetryError(f"{shown}: the connection failed ({type(error).__name__})") from error
        finally:
            self.count(0, requests)

    def check(self, response: Any, shown: str) -> None:
        """Raise what the answer's status means, if it means a failure."""
        problem = problem_of(response.status_code, response.headers, shown, self.now())
        if problem is not None:
            raise problem

    def count(self, received: int, requests: int = 0) -> None:
        with self._lock:
            self.bytes_received += received
            self.requests += requests

    def _headers(self) -> dict[str, str]:
        from huggingface_hub import constants, get_token

        token = self._token
        if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
            token = get_token()
        if token is None:
            return {"User-Agent": "modelkin"}
        if not token.isascii() or not token.isprintable() or " " in token or not token:
            # The error that the session would raise shows the token.
            raise StopError("the token for the Hub holds characters that no token has: check HF_TOKEN")
        return {"User-Agent": "modelkin", "Authorization": f"Bearer {token}"}


class _Timed:
    """An answer that ends when it has taken too long as a whole."""

    def __init__(self, response: Any, shown: str, begun: float, clock: Callable[[], float]) -> None:
        self.status_code: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.links: Mapping[str, Mapping[str, str]] = response.links
        self.history: list[Any] = response.history
        self._response, self._shown, self._begun, self._clock = response, shown, begun, clock

    def iter_bytes(self) -> Iterator[bytes]:
        return self._in_time(self._response.iter_bytes())

    def iter_raw(self) -> Iterator[bytes]:
        return self._in_time(self._response.iter_raw())

    def _in_time(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._clock() - self._begun > LONGEST_ANSWER_S:
                raise RetryError(f"{self._shown}: expected an answer in {LONGEST_ANSWER_S:.0f} s, found a part")
            yield piece


def problem_of(status: int, headers: Mapping[str, str], shown: str, now: datetime) -> ModelkinError | None:
    """What an HTTP status means for what is `shown`: None for success.

    RetryError for a rate limit or a failing server; else SkipError: "gated" (401, 403), "disabled",
    "vanished" (404, 410, and what the Hub answers for a repository that is gone or private), "refused".
    """
    if status in (200, 206):
        return None
    code, said = headers.get("x-error-code", ""), headers.get("x-error-message", "")
    if status in _RETRIED:
        return RetryError(f"{shown}: the Hub answered {status}", asked_wait(headers, now))
    if status in (404, 410) or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        return SkipError("vanished", f"{shown} is gone, or private: the Hub answered {status}")
    if "is disabled" in said or status == 451:
        return SkipError("disabled", f"{shown} is disabled on the Hub: it answered {status}")
    if status in (401, 403):
        return SkipError(
            "gated",
            f"{shown} is gated: the Hub answered {status}; ask its authors for access and set HF_TOKEN",
        )
    return SkipError("refused", f"{shown}: expected an answer, found status {status}")
