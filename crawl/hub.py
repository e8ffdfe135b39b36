"""A Hub as a source of models: huggingface.co, or whatever speaks its language at another address."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote, urlsplit

from crawl.described import Description, Descriptions, FirstBytes
from crawl.hub_http import HubHttp
from crawl.hub_reader import HubReader
from crawl.names import escaped, is_plain_path, is_repo_name
from crawl.remote_file import RemoteFile
from crawl.retry import Sleep
from crawl.source import FileRef, ModelRef, SkippedModel
from store.errors import ModelkinError, RetryError, SkipError, StopError

__all__ = ["HubSource"]

DEFAULT_ENDPOINT = "https://huggingface.co"

_SHA = re.compile(r"[0-9a-f]{40,64}", re.ASCII)


class HubSource:
    """Models of a Hub, optionally of one `author`, matching a `search`, or with all tags of `filter`.

    `endpoint` None takes HF_ENDPOINT, else huggingface.co; `token` None takes HF_TOKEN or the login of
    `hf auth login`. `limit` is the most models to list. `sleep` takes seconds, `clock` gives monotonic
    seconds.

    Raises StopError when `endpoint` is no address of a Hub.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        author: str | None = None,
        search: str | None = None,
        filter: str | Sequence[str] | None = None,
        limit: int | None = None,
        *,
        sleep: Sleep = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        self._label = _label(chosen)
        self._http = HubHttp(chosen, token, sleep, clock)
        self._limit = limit
        self._query: dict[str, Any] = {"expand": ["sha", "createdAt", "lastModified", *Descriptions.EXPAND]}
        self._descriptions = Descriptions()
        self._first_bytes = FirstBytes()
        tags = [filter] if isinstance(filter, str) else list(filter or ())
        for name, value in (("author", author), ("search", search), ("filter", tags), ("limit", limit)):
            if value:
                self._query[name] = value

    @property
    def label(self) -> str:
        return self._label

    @property
    def remote(self) -> bool:
        return True

    @property
    def requests(self) -> int:
        """HTTP requests made so far, redirects and repetitions included."""
        return self._http.requests

    @property
    def bytes_received(self) -> int:
        """Bytes of answers so far, lists included."""
        return self._http.bytes_received

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        """List the models as the Hub orders them, page by page.

        Raises StopError when the Hub cannot be asked, and RetryError when the list breaks off after some have
        come: a model that is missing from such a list is not gone.
        """
        seen: set[str] = set()
        try:
            for row in islice(self._http.rows("/api/models", self._query), self._limit):
                found = self._reference(row)
                # A page shifts while another one is read, and a model comes twice.
                if found.name not in seen:
                    seen.add(found.name)
                    yield found
        except RetryError as error:
            if seen:
                raise RetryError(f"the list broke off after {len(seen)} models: {error}", error.wait_s) from error
            raise StopError(f"{self.label} cannot be read: {error}; check the address and the network") from error
        except SkipError as error:
            raise StopError(f"{self.label} cannot be listed: {error}") from error

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        """The model's files, sorted by path; names that no file of a repository can have are left out.

        Raises SkipError: "vanished", "gated", "disabled"; RetryError when the Hub does not answer.
        """
        path = f"/api/models/{_checked(model.name)}/tree/{quote(model.revision, safe='')}"
        found: dict[str, FileRef] = {}
        for row in self._http.rows(path, {"recursive": "true"}):
            name, size = row.get("path"), row.get("size")
            if row.get("type") != "file" or not isinstance(name, str) or not is_plain_path(name):
                continue
            if type(size) is int and size >= 0:
                found[name] = FileRef(name, size)
        return [found[name] for name in sorted(found)]

    def described(self, model: ModelRef) -> Description | None:
        """What the list said of this revision, if that is still known."""
        return self._descriptions.of(model)

    def listed_files(self, model: ModelRef) -> Sequence[FileRef] | None:
        """As `files`, where the list named them and one holds the weights, whose size comes with its header. None where
        it is not as simple as that; the sizes of the other files are 0, and nobody needs them. Raises as `files` does.
        """
        described = self._descriptions.of(model)
        weights = described.only_weights if described else None
        if described is None or weights is None:
            return None
        url = self._url(model, weights)
        found = self._first_bytes.learn(url, weights, RemoteFile(self._http, url, f"{model.name}/{weights}"))
        return [found if path == weights else FileRef(path, 0) for path in described.files]

    def open(self, model: ModelRef, file: FileRef) -> HubReader:
        """Read one file by range. Asks nothing yet: what is wrong with the file comes out when it is read."""
        begun = self._first_bytes.take(self._url(model, file.path))
        if begun is not None:
            return begun
        remote = RemoteFile(self._http, self._url(model, file.path), f"{model.name}/{file.path}", file.size)
        return HubReader(remote.shown, file.size, remote)

    def read_text(self, model: ModelRef, path: str, limit: int) -> str | None:
        """At most `limit` bytes of a text file of the model, in one request; None when there is none.

        Raises SkipError("gated", ...) and RetryError as `files` does.
        """
        remote = RemoteFile(self._http, self._url(model, path), f"{model.name}/{path}")
        try:
            return remote.fetch(0, limit).decode("utf-8", "replace")
        except SkipError as error:
            if error.reason == "vanished":
                return None
            raise

    def _url(self, model: ModelRef, path: str) -> str:
        if not is_plain_path(path):
            raise SkipError("bad_name", f"{model.name}: expected a file of the model, found {escaped(path)!r}")
        revision = quote(model.revision, safe="")
        return f"{self._http.endpoint}/{_checked(model.name)}/resolve/{revision}/{quote(path)}"

    def _reference(self, row: dict[str, Any]) -> ModelRef | SkippedModel:
        name = row.get("id", row.get("modelId"))
        if not isinstance(name, str) or not is_repo_name(name):
            shown = escaped(str(name)) if isinstance(name, str) else "?"
            return SkippedModel(shown, "bad_name", f"expected the name of a repository, found {shown!r}")
        try:
            sha = row.get("sha") or self._ask_sha(name)
        except ModelkinError as error:
            reason = error.reason if isinstance(error, SkipError) else "no_revision"
            return SkippedModel(name, reason, str(error))
        if not isinstance(sha, str) or not _SHA.fullmatch(sha):
            return SkippedModel(name, "no_revision", f"{name}: expected a commit of 40 hex digits, found {sha!r:.80}")
        self._descriptions.note(name, sha, row)
        return ModelRef(name, sha, _time(row.get("createdAt")), _time(row.get("lastModified")))

    def _ask_sha(self, name: str) -> object:
        """The commit of a model whose row has none: older Hubs do not put it there."""
        answer, _ = self._http.json(f"{self._http.endpoint}/api/models/{name}")
        return answer.get("sha") if isinstance(answer, dict) else None


def _label(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise StopError("expected the address of a Hub, https://host, found something else: check HF_ENDPOINT")
    # Not as it was given: it may hold a password.
    return f"hub:{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _checked(name: str) -> str:
    if not is_repo_name(name):
        raise SkipError("bad_name", f"expected the name of a repository, found {escaped(name)!r}")
    return name


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
