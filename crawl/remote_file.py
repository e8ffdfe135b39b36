"""The bytes of one file on a Hub, by range, with the certainty that all ranges are of the same file."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crawl.hub_http import HubHttp
from crawl.names import escaped
from store.errors import RetryError, SkipError

__all__ = ["MOST", "Pin", "Pins", "RemoteFile"]

MAX_SKIPPED = 8 * 2**20
"""Bytes read in vain at most, where a server answers a range with the whole file."""

MIN_PROGRESS = 64 * 2**10
"""Bytes by which a body must have grown before it broke off, for its attempts to be counted anew."""

MOST: Final = 2**63 - 1
"""What a table can hold of a number that a Hub says."""

KEPT_PINS: Final = 20_000

_DIGEST = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(slots=True)
class Pin:
    """Which file it is: the `etag` of the first answer, and the `digest` that the list of files gives (a git blob's
    SHA-1 or a SHA-256). Either is "" while nobody has said it."""

    etag: str = ""
    digest: str = ""


class Pins:
    """One pin a file, shared by whoever opens it; those of the latest files. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[str, Pin] = OrderedDict()

    def of(self, url: str) -> Pin:
        with self._lock:
            pin = self._of.setdefault(url, Pin())
            self._trim()
            return pin

    def start(self, digests: Mapping[str, str]) -> None:
        """New pins by address, with what a list says of each file's digest."""
        with self._lock:
            self._of.update({url: Pin(digest=digest) for url, digest in digests.items()})
            self._trim()

    def _trim(self) -> None:
        while len(self._of) > KEPT_PINS:
            self._of.popitem(last=False)


class RemoteFile:
    """One file at one revision. Its ETag is fixed by the first answer, and so is its size if not given.

    Who opens a file twice gives both the same `pin`: they then are of the same file, or fail.
    """

    def __init__(self, http: HubHttp, url: str, shown: str, size: int | None = None, pin: Pin | None = None) -> None:
        self.shown = shown
        self.size = size
        self.bytes_received = 0
        self._http, self._url = http, url
        self._pin_of_file = pin or Pin()

    def fetch(self, start: int, stop: int) -> bytearray:
        """The bytes from `start` up to `stop`, or up to the file's end where its size was not known before.

        A body that breaks off is taken up where it broke off. Raises what `problem_of` says, RetryError when
        that was in vain, SkipError("changed_while_reading", ...) when the file became another one, and
        SkipError("no_ranges", ...) when the server can only send the whole of it.
        """
        data = bytearray()
        self._http.retrying(lambda: self._receive(data, start, stop), lambda: len(data) // MIN_PROGRESS)
        return data

    def _receive(self, data: bytearray, start: int, stop: int) -> None:
        position = start + len(data)
        if data and position >= (stop if self.size is None else min(stop, self.size)):
            # It was all there when the end of the body failed to come.
            return
        # Identity: a range of a compressed answer is a range of the compressed bytes.
        headers = {"Range": f"bytes={position}-{stop - 1}", "Accept-Encoding": "identity"}
        with self._http.stream(self._url, self.shown, headers) as response:
            if response.status_code == 416:
                self._pin(response, 0 if self.size is None else None)
                if self.size != 0:
                    raise self._changed(f"{self.size} bytes", f"no byte {position}")
                return
            self._http.check(response, self.shown)
            first, total = self._span(response, position)
            self._pin(response, total)
            stop = stop if self.size is None else min(stop, self.size)
            if position - first > MAX_SKIPPED:
                raise SkipError("no_ranges", f"{self.shown}: expected a range of bytes, found all of the file")
            skip = position - first
            for piece in response.iter_raw():
                if len(data) == stop - start:
                    return
                self.bytes_received += len(piece)
                self._http.count(len(piece))
                data += piece[skip : skip + stop - start - len(data)]
                skip = max(0, skip - len(piece))
                # A range ends by itself, and a body that is read to its end leaves the connection for the next one.
                if len(data) == stop - start and response.status_code != 206:
                    return
        # Without a length, the end of the body is the end of the file.
        if skip or (self.size is not None and len(data) < stop - start):
            raise RetryError(f"{self.shown}: expected {stop - start} bytes from {start} on, found {len(data)}")

    def _span(self, response: Any, position: int) -> tuple[int, int | None]:
        """Where in the file the body begins, and the file's size if the answer tells it."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise SkipError("no_ranges", f"{self.shown}: expected the bytes themselves, found them compressed")
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != position:
                raise RetryError(f"{self.shown}: expected bytes from {position} on, found another range")
            return position, self._total(found[3])
        return 0, self._total(response.headers.get("content-length", ""))

    def _total(self, said: str) -> int | None:
        """A size that a header tells, if it tells one."""
        if not said.isascii() or not said.isdigit():
            return None
        if len(said) > 19 or int(said) > MOST:
            raise SkipError("bad_answer", f"{self.shown}: expected the size of a file, found a number of {said[:3]}...")
        return int(said)

    def _pin(self, response: Any, total: int | None) -> None:
        """Raise SkipError when the answer is about another file than the answers before."""
        answers = [*response.history, response]
        # The Hub's own tag of a large file: those of the places it redirects to may differ among each other.
        linked = [answer.headers.get("x-linked-etag") for answer in answers]
        etag = next((tag for tag in linked if tag), response.headers.get("etag", "")).removeprefix("W/")
        pin = self._pin_of_file
        tag = etag.strip('"')
        if _DIGEST.fullmatch(tag) and len(tag) == len(pin.digest) and tag != pin.digest:
            raise self._changed(f"the file {pin.digest}", f"the file {tag}")
        if pin.etag and etag and etag != pin.etag:
            raise self._changed(f"ETag {pin.etag}", f"ETag {etag}")
        if self.size is not None and total is not None and total != self.size:
            raise self._changed(f"{self.size} bytes", f"{total} bytes")
        pin.etag = pin.etag or etag
        self.size = total if self.size is None else self.size

    def _changed(self, expected: str, found: str) -> SkipError:
        # Which of the two is right nobody knows; whoever starts anew must not be held to the first.
        self._pin_of_file.etag = ""
        return SkipError("changed_while_reading", f"{self.shown}: expected {escaped(expected)}, found {escaped(found)}")
