"""What a Hub's list says of its models beside their names: which files they have, and what their cards declare.

A model whose weights are one file costs one request then: no list of its files, no card, no configuration. What is not
remembered any more, or is not as simple as that, is asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from crawl.claims import listed_claims
from crawl.hub_reader import HEAD, HubReader
from crawl.layout import is_weight
from crawl.names import is_plain_path
from crawl.remote_file import RemoteFile
from crawl.source import FileRef, ModelRef
from store.records import Claim

__all__ = ["Described", "Description", "Descriptions", "FirstBytes"]

KEPT: Final = 20_000
"""Models that are remembered, of a list that may be a million long: the first ones, for they are read first."""
IN_USE: Final = 1_000
"""Models that are remembered after they were asked about: those that are being read."""
WAITING: Final = 256
"""Files whose first bytes wait."""
MAX_FILES: Final = 1000
"""Files of one model; those of a longer list are asked for."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a list says of one revision of a model. `files` is empty where it does not say."""

    revision: str
    files: tuple[str, ...]
    claims: tuple[Claim, ...]

    @property
    def only_weights(self) -> str | None:
        """The path of the one file that holds weights, where there is one and it is at the top."""
        weights = [path for path in self.files if is_weight(path)]
        if len(weights) == 1 and weights[0] == "model.safetensors":
            return weights[0]
        return None


@runtime_checkable
class Described(Protocol):
    """A source whose list says more than names."""

    def described(self, model: ModelRef) -> Description | None:
        """What the list said of this revision, if that is still known."""

    def listed_files(self, model: ModelRef) -> Sequence[FileRef] | None:
        """The model's files as far as reading it needs them, if the list said enough."""


class Descriptions:
    """What rows of a list said. Safe to share between threads."""

    EXPAND: Final = ("siblings", "cardData", "tags", "author", "library_name", "pipeline_tag")
    """What to ask a list for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead: dict[str, Description] = {}
        self._in_use: OrderedDict[str, Description] = OrderedDict()

    def note(self, name: str, revision: str, row: Mapping[str, Any]) -> None:
        """Remember a row; one that says nothing of cards is nothing to remember."""
        if "cardData" not in row and "siblings" not in row:
            return
        described = Description(revision, _files(row.get("siblings")), listed_claims(row))
        with self._lock:
            self._in_use.pop(name, None)
            if name in self._ahead or len(self._ahead) < KEPT:
                self._ahead[name] = described

    def of(self, model: ModelRef) -> Description | None:
        with self._lock:
            found = self._ahead.pop(model.name, None) or self._in_use.get(model.name)
            if found is not None:
                self._in_use[model.name] = found
                while len(self._in_use) > IN_USE:
                    self._in_use.popitem(last=False)
        return found if found is not None and found.revision == model.revision else None


def _files(siblings: object) -> tuple[str, ...]:
    if not isinstance(siblings, list) or len(siblings) > MAX_FILES:
        return ()
    names = [each.get("rfilename") for each in siblings if isinstance(each, dict)]
    return tuple(sorted(name for name in names if isinstance(name, str) and is_plain_path(name)))


class FirstBytes:
    """Files that were opened to learn their size: their first bytes wait for whoever opens them to read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, HubReader] = {}

    def learn(self, url: str, path: str, remote: RemoteFile) -> FileRef:
        """The size of a file of which only the name is known, in the one request that its header costs anyway."""
        head = remote.fetch(0, HEAD)
        size = len(head) if remote.size is None else remote.size
        reader = HubReader(remote.shown, size, _Begun(remote, head))
        with self._lock:
            self._readers[url] = reader
            while len(self._readers) > WAITING:
                del self._readers[next(iter(self._readers))]
        return FileRef(path, size)

    def take(self, url: str) -> HubReader | None:
        """The reader that holds the first bytes; once."""
        with self._lock:
            return self._readers.pop(url, None)


class _Begun:
    """Ranges of a file whose first bytes are there."""

    def __init__(self, remote: RemoteFile, head: bytearray) -> None:
        self._remote, self._head = remote, head
        self.bytes_received = remote.bytes_received

    def fetch(self, start: int, stop: int) -> bytearray:
        """The bytes from `start` up to `stop`; a beginning that is there is not asked for again."""
        if start == 0 and stop == len(self._head):
            head, self._head = self._head, bytearray()
            return head
        fetched = self._remote.fetch(start, stop)
        self.bytes_received = self._remote.bytes_received
        return fetched
