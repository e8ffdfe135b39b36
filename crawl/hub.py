"""A Hub as a source of models: huggingface.co, or whatever speaks its language at another address."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, urlsplit

from crawl.described import Description, Descriptions, FirstBytes
from crawl.hub_http import TIMEOUT_S, HubHttp, RefusedError, without_secrets
from crawl.hub_reader import HubReader
from crawl.listing import Gone, Listed, ListedPage, Sort
from crawl.names import escaped, is_plain_path, is_repo_name
from crawl.remote_file import MOST, Pins, RemoteFile
from crawl.retry import Sleep
from crawl.source import FileRef, ModelRef, SkippedModel
from store.errors import ModelkinError, RetryError, SkipError, StopError

__all__ = ["HubSource"]

DEFAULT_ENDPOINT = "https://huggingface.co"
PAGE: Final = 1000
"""Models a page: the most that huggingface.co gives."""

_SHA = re.compile(r"[0-9a-f]{40,64}", re.ASCII)
_HUB_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}", re.ASCII)


class HubSource:
    """Models of a Hub, optionally of one `author`, matching a `search`, or with all tags of `filter`.

    `endpoint` None takes HF_ENDPOINT, else huggingface.co; `token` None takes HF_TOKEN or the login of
    `hf auth login`. `limit` is the most models to read in a run, `sort` the order in which they are listed and read
    the first time. `listing` is the address of the Hub to ask for lists, where `endpoint` is a mirror that has none.
    `timeout_s` is for the connection and for each piece of an answer. `sleep` takes seconds, `clock` gives monotonic
    seconds.

    Raises StopError when `endpoint` or `listing` is no address of a Hub.
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
        sort: Sort = "createdAt",
        listing: str | None = None,
        timeout_s: float = TIMEOUT_S,
        sleep: Sleep = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        self._label = f"hub:{_checked_address(chosen)}"
        self._http = HubHttp(chosen, token, sleep, clock, timeout_s=timeout_s)
        self._lists = self._http
        if listing is not None and _checked_address(listing) != _checked_address(chosen):
            self._lists = HubHttp(listing, token, sleep, clock, timeout_s=timeout_s)
        self.limit = limit
        self.sort: Sort = sort
        self._expand = ["sha", "createdAt", "lastModified", "disabled", *Descriptions.EXPAND]
        self._expand += ["downloads"] * (sort == "downloads")
        self._descriptions = Descriptions()
        self._first_bytes = FirstBytes()
        tags = [filter] if isinstance(filter, str) else list(filter or ())
        given = {"author": author, "search": search, "filter": tags}
        self._narrowed = {name: value for name, value in given.items() if value}
        self._pins = Pins()

    @property
    def label(self) -> str:
        return self._label

    @property
    def remote(self) -> bool:
        return True

    @property
    def selection(self) -> str:
        """What narrows the list, as JSON; "" when nothing does."""
        return json.dumps(self._narrowed, sort_keys=True) if self._narrowed else ""

    @property
    def requests(self) -> int:
        """HTTP requests made so far, redirects and repetitions included."""
        return sum(http.requests for http in self._sides())

    @property
    def retries(self) -> int:
        """Requests that failed and were made again."""
        return sum(http.retries for http in self._sides())

    @property
    def bytes_received(self) -> int:
        """Bytes of answers so far, lists included."""
        return sum(http.bytes_received for http in self._sides())

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        """List at most `limit` models as the Hub orders them, page by page. Raises as `pages` does."""
        seen: set[str] = set()

        def each() -> Iterator[ModelRef | SkippedModel]:
            for row in self._rows({"limit": min(self.limit or PAGE, PAGE)}):
                found = self._listed(row)
                # A page shifts while another one is read, and a model comes twice.
                if found.name not in seen:
                    seen.add(found.name)
                    yield _reference(found) if isinstance(found, Listed) else found

        yield from islice(each(), self.limit)

    def pages(self, sort: Sort) -> Iterator[ListedPage]:
        """The list, newest (or most downloaded) first; a page is asked for when the one before is used up.

        Raises StopError when the Hub cannot be asked, and RetryError when the list breaks off after some have
        come: a model that is missing from such a list is not gone.
        """
        for rows, date in self._row_pages({"sort": sort, "limit": PAGE}):
            found = [self._listed(row) for row in rows]
            models = [each for each in found if isinstance(each, Listed)]
            yield ListedPage(models, [each for each in found if isinstance(each, SkippedModel)], date)

    def ask(self, name: str) -> Listed | Gone | SkippedModel:
        """What has become of one repository, in one request (two when it was renamed). A mirror's cache is not asked.

        A Hub answers 401 to who has no token, and 404 to who has one, for what is deleted and what is private alike:
        "private" and "deleted" are what it answered. Raises RetryError when it does not answer.
        """
        try:
            url = f"{self._lists.endpoint}/api/models/{_checked(name)}"
            row = self._lists.json(url, {"expand": self._expand}).content
        except RefusedError as error:
            if error.reason == "vanished":
                return Gone("deleted" if error.status in (404, 410) else "private", str(error))
            if error.reason in ("gated", "disabled"):
                return Gone("gated" if error.reason == "gated" else "disabled", str(error))
            return SkippedModel(name, error.reason, str(error))
        except SkipError as error:
            return SkippedModel(escaped(name), error.reason, str(error))
        return self._listed(row if isinstance(row, dict) else {})

    def files(self, model: ModelRef) -> Sequence[FileRef]:
        """The model's files, sorted by path; names that no file of a repository can have are left out.

        Raises SkipError: "vanished", "gated", "disabled"; RetryError when the Hub does not answer.
        """
        path = f"/api/models/{_checked(model.name)}/tree/{quote(model.revision, safe='')}"
        found: dict[str, FileRef] = {}
        digests: dict[str, str] = {}
        for row in self._http.rows(path, {"recursive": "true"}):
            name, size = row.get("path"), row.get("size")
            if row.get("type") != "file" or not isinstance(name, str) or not is_plain_path(name):
                continue
            if type(size) is int and 0 <= size <= MOST:
                found[name] = FileRef(name, size)
                lfs = row.get("lfs")
                digest = lfs.get("oid") if isinstance(lfs, dict) else row.get("oid")
                digests[name] = digest if isinstance(digest, str) else ""
        self._pins.start({self._url(model, path): digest for path, digest in digests.items()})
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
        remote = RemoteFile(self._http, url, f"{model.name}/{weights}", pin=self._pins.of(url))
        found = self._first_bytes.learn(url, weights, remote)
        return [found if path == weights else FileRef(path, 0) for path in described.files]

    def open(self, model: ModelRef, file: FileRef) -> HubReader:
        """Read one file by range. Asks nothing yet: what is wrong with the file comes out when it is read."""
        url = self._url(model, file.path)
        begun = self._first_bytes.take(url)
        if begun is not None:
            return begun
        remote = RemoteFile(self._http, url, f"{model.name}/{file.path}", file.size, self._pins.of(url))
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

    def _sides(self) -> list[HubHttp]:
        return [self._http] if self._lists is self._http else [self._http, self._lists]

    def _rows(self, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for rows, _ in self._row_pages(parameters):
            yield from rows

    def _row_pages(self, parameters: dict[str, Any]) -> Iterator[tuple[list[dict[str, Any]], datetime | None]]:
        came = 0
        try:
            for page in self._lists.pages("/api/models", {"expand": self._expand, **self._narrowed, **parameters}):
                yield page.content, page.date
                came += len(page.content)
        except RetryError as error:
            if came:
                raise RetryError(f"the list broke off after {came} models: {error}", error.wait_s) from error
            raise StopError(f"{self.label} cannot be read: {error}; check the address and the network") from error
        except SkipError as error:
            # One that has no list says so in its own way: olah looks for a repository that is called "models".
            unknown = isinstance(error, RefusedError) and (error.reason == "vanished" or error.status == 405)
            mirror = unknown and self._lists is self._http
            todo = "; if it is a mirror, name the Hub that has the list with --listing URL" if mirror else ""
            raise StopError(f"{self.label} cannot be listed: {error}{todo}") from error

    def _listed(self, row: dict[str, Any]) -> Listed | SkippedModel:
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
        hub_id, downloads = row.get("_id"), row.get("downloads")
        return Listed(
            name,
            sha,
            hub_id if isinstance(hub_id, str) and _HUB_ID.fullmatch(hub_id) else None,
            _time(row.get("createdAt")),
            _time(row.get("lastModified")),
            downloads if type(downloads) is int and abs(downloads) <= MOST else None,
            row.get("disabled") is True,
        )

    def _ask_sha(self, name: str) -> object:
        """The commit of a model whose row has none: older Hubs do not put it there."""
        answer = self._lists.json(f"{self._lists.endpoint}/api/models/{name}").content
        return answer.get("sha") if isinstance(answer, dict) else None


def _checked_address(endpoint: str) -> str:
    """The address without what must not be stored or shown. Raises StopError when it is none."""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise StopError("expected the address of a Hub, https://host, found something else: check HF_ENDPOINT")
    return without_secrets(endpoint).rstrip("/")


def _reference(listed: Listed) -> ModelRef:
    return ModelRef(listed.name, listed.revision, listed.created_at, listed.modified_at)


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
