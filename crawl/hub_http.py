"""Requests to a Hub over huggingface_hub's session: paced, retried, timed and counted.

The lists are fetched here and not by `HfApi`: its calls have no time-out and sleep by themselves, so that a
Hub that stalls would hold a nightly run for good. Nor are its headers used, as building them asks a third
address which program is running. huggingface_hub is imported when the first request is made.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from crawl.names import escaped
from crawl.pace import Pace, bucket_of, published_limits
from crawl.retry import ATTEMPTS, Sleep, asked_wait, date_of, retrying
from store.errors import ModelkinError, RetryError, SkipError, StopError

__all__ = ["Answer", "HubHttp", "RefusedError", "problem_of", "without_secrets"]

T = TypeVar("T")

TIMEOUT_S = 30.0
"""For the connection and for each piece of an answer."""

LONGEST_ANSWER_S = 600.0
"""For one whole answer: a server that drips a byte a second never times out."""

MAX_PAGE = 64 * 2**20
MAX_ADDRESS: Final = 8192

FIRST_ATTEMPTS: Final = 5
"""Of the first requests, until one is answered: an address that is wrong is told sooner than weather is outlasted."""

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED_ELSEWHERE = frozenset({400, 401, 403, 410})


class RefusedError(SkipError):
    """The Hub does not give what was asked for. `code` is its own word for why, "" where it has none."""

    def __init__(self, reason: str, message: str, status: int, code: str) -> None:
        super().__init__(reason, message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer: its content, the address of the next page, when the Hub gave it by its own clock (aware)."""

    content: Any
    following: str | None
    date: datetime | None


def without_secrets(address: str) -> str:
    """An address as it may be shown and stored: no name or password, no query, no fragment. Raises ValueError."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class HubHttp:
    """One Hub: its address, the token, and what it has cost so far. Safe to share between threads.

    `token` None takes the one of the environment or of `hf auth login`; it is in no message. A name and password in
    the address go into a header, and are in no message either. `timeout_s` is for the connection and for each piece
    of an answer. `sleep` takes seconds, `clock` gives monotonic seconds, `now` the time in UTC.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        sleep: Sleep,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.endpoint = without_secrets(endpoint).rstrip("/")
        self.sleep, self.clock, self.now = sleep, clock, now
        self.requests = 0
        self.retries = 0
        self.bytes_received = 0
        self._answered = False
        self._timeout_s = timeout_s
        self._token = token
        self._password = urlsplit(endpoint).netloc.rpartition("@")[0]
        self._lock = threading.Lock()
        self._pace: Pace | None = None

    @property
    def pace(self) -> Pace:
        """How fast this Hub is asked. Made for the first request, when it is known who asks."""
        with self._lock:
            if self._pace is None:
                limits = published_limits(urlsplit(self.endpoint).hostname or "", "Authorization" in self._headers())
                self._pace = Pace(limits, self.sleep, self.clock)
            return self._pace

    def rows(self, path: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of a list that may come in pages. Raises as `pages` does."""
        for page in self.pages(path, parameters):
            yield from page.content

    def pages(self, path: str, parameters: Mapping[str, Any]) -> Iterator[Answer]:
        """The pages of a list, which are asked for one at a time; their content is a list of objects.

        Raises what `problem_of` says and SkipError("bad_answer", ...) when it is no list.
        """
        url: str | None = self.endpoint + path
        asked: Mapping[str, Any] | None = parameters
        seen: set[str] = set()
        while url is not None:
            odd = len(url) > MAX_ADDRESS or not url.isprintable()
            if odd or url in seen or urlsplit(url)[:2] != urlsplit(self.endpoint)[:2]:
                # The token goes with each request, so it matters where the Hub sends us.
                raise SkipError("bad_answer", f"{self.endpoint}{path}: expected a next page on the same Hub")
            seen.add(url)
            page = self.json(url, asked)
            url, asked = page.following, None
            if not isinstance(page.content, list):
                found = type(page.content).__name__
                raise SkipError("bad_answer", f"{self.endpoint}{path}: expected a list, found {found}")
            yield Answer([row for row in page.content if isinstance(row, dict)], url, page.date)

    def json(self, url: str, parameters: Mapping[str, Any] | None = None) -> Answer:
        """A JSON answer. Raises what `problem_of` says and SkipError("bad_answer", ...) when it is none."""
        shown = without_secrets(url)

        def ask() -> Answer:
            content = bytearray()
            with self.stream(url, shown, {}, parameters) as response:
                self.check(response, shown)
                for piece in response.iter_bytes():
                    self.count(len(piece))
                    content += piece
                    if len(content) > MAX_PAGE:
                        raise SkipError("bad_answer", f"{shown}: expected at most {MAX_PAGE} bytes of JSON")
                following = response.links.get("next", {}).get("url")
                date = date_of(response.headers.get("date", ""))
            return Answer(json.loads(content), urljoin(url, following) if following else None, date)

        try:
            return self.retrying(ask)
        except (ValueError, RecursionError) as error:
            raise SkipError("bad_answer", f"{shown}: expected JSON, found {escaped(str(error))}") from error

    def retrying(self, call: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """What `call` returns, tried again as `crawl.retry` says."""

        def sleep(seconds: float) -> None:
            with self._lock:
                self.retries += 1
            self.sleep(seconds)

        return retrying(call, sleep, ATTEMPTS if self._answered else FIRST_ATTEMPTS, progress)

    @contextmanager
    def stream(
        self, url: str, shown: str, headers: Mapping[str, str], parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Any]:
        """An answer whose body is not read yet; redirects are followed, and the token stays with this host.

        Waits until the Hub may be asked. Raises RetryError when the network fails, then or while the body is read.
        """
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

        bucket = bucket_of(urlsplit(url).path)
        every_header = {**self._headers(), **headers}
        with self.pace.turn(bucket) as turn:
            begun = self.clock()
            requests = 1
            try:
                with get_session().stream(
                    "GET",
                    url,
                    params=parameters,
                    headers=every_header,
                    timeout=self._timeout_s,
                    follow_redirects=True,
                ) as response:
                    requests += len(response.history)
                    self._answered = True
                    turn.good = response.status_code not in _RETRIED
                    asked = asked_wait(response.headers, self.now())
                    said = (response.history or [response])[0].headers
                    self.pace.heard(bucket, response.status_code, said, asked)
                    yield _Timed(response, shown, begun, self.clock)
            except OfflineModeIsEnabled as error:
                raise StopError(f"{self.endpoint} cannot be asked: HF_HUB_OFFLINE is set") from error
            except RetryError:
                turn.good = False
                raise
            except (HTTPError, UnicodeError) as error:
                # Of a host's name that no socket takes, the latter.
                turn.good = False
                # Its own message may hold a signed address.
                raise RetryError(f"{shown}: the connection failed ({type(error).__name__})") from error
            finally:
                self.count(0, requests)

    def check(self, response: Any, shown: str) -> None:
        """Raise what the answer's status means, if it means a failure."""
        if response.status_code in _REFUSED_ELSEWHERE and response.elsewhere:
            # Signed addresses hold for minutes: the Hub gives a fresh one.
            raise RetryError(f"{shown}: where the Hub redirected to answered {response.status_code}")
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
        if self._password:
            user, _, password = self._password.partition(":")
            both = f"{unquote(user)}:{unquote(password)}".encode()
            return {"User-Agent": "modelkin", "Authorization": f"Basic {b64encode(both).decode('ascii')}"}
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
        first = response.history[0].url if response.history else response.url
        self.elsewhere = (first.host, first.port) != (response.url.host, response.url.port)
        """Was the request redirected to another host?"""
        self.path: str = response.url.path
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

    RetryError for a rate limit or a failing server; else RefusedError: "gated" (401, 403), "disabled",
    "vanished" (404, 410, and what the Hub answers for a repository that is gone or private), "refused".
    """
    if status in (200, 206):
        return None
    code, said = headers.get("x-error-code", ""), headers.get("x-error-message", "")
    if status in _RETRIED:
        return RetryError(f"{shown}: the Hub answered {status}", asked_wait(headers, now))
    if status in (404, 410) or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        reason, message = "vanished", f"{shown} is gone, or private: the Hub answered {status}"
    elif "is disabled" in said or status == 451:
        reason, message = "disabled", f"{shown} is disabled on the Hub: it answered {status}"
    elif status in (401, 403):
        reason = "gated"
        message = f"{shown} is gated: the Hub answered {status}; ask its authors for access and set HF_TOKEN"
    else:
        reason, message = "refused", f"{shown}: expected an answer, found status {status}"
    return RefusedError(reason, message, status, code)
