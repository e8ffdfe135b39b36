"""Which source of models a command means: a folder, a cache of huggingface_hub, or a Hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep as really_sleep
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import SplitResult, urlsplit

from modelkin.plain import plain
from store.errors import StopError

if TYPE_CHECKING:
    from crawl.retry import Sleep
    from crawl.source import Source

__all__ = ["DEFAULT_BUDGET", "SourceChoice"]

DEFAULT_BUDGET: Final = 64 * 2**20
"""Bytes a model that are read from a Hub."""


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """What the user asked to read; plain values only, since the scheduler keeps it on disk.

    `where` is `hub`, `hub:URL`, an address, or a path. `author`, `search` and `filter` narrow a Hub's list, `listing`
    is the Hub that has it where the first one is a mirror, `limit` is how many models to read in a run, and `sort`
    which ones first. There is no token here: it comes from HF_TOKEN or the login of `hf auth login`.
    """

    where: str = "hub"
    endpoint: str | None = None
    author: str | None = None
    search: str | None = None
    filter: tuple[str, ...] = ()
    limit: int | None = None
    sort: Literal["createdAt", "downloads"] = "createdAt"
    listing: str | None = None

    def settled(self) -> SourceChoice:
        """The same choice for another working folder. Raises StopError when there is nothing there."""
        address = self._address()
        if address is None:
            self._refuse_narrowing()
            path = Path(self.where).expanduser().absolute()
            if not path.is_dir():
                found = "a file" if path.is_file() else "nothing"
                raise StopError(
                    f"expected a folder of models, hub or an address as SOURCE; found {found} at {plain(str(path))}"
                )
            return replace(self, where=str(path))
        listing = _plain_address(self.listing) if self.listing else None
        return replace(self, where="hub", endpoint=_plain_address(address) if address else None, listing=listing)

    def open(self, sleep: Sleep = really_sleep) -> tuple[Source, bool]:
        """The source, and whether its listing covers all of it, so that what is missing there is gone.

        `sleep` is how to wait for a Hub, in seconds.
        """
        settled = self.settled()
        if settled.where == "hub":
            from crawl.hub import HubSource

            hub = HubSource(
                endpoint=settled.endpoint,
                author=self.author,
                search=self.search,
                filter=list(self.filter) or None,
                limit=self.limit,
                sort=self.sort,
                listing=settled.listing,
                sleep=sleep,
            )
            return hub, not (self.author or self.search or self.filter)
        from crawl.folder import FolderSource
        from crawl.hfcache import CacheSource, is_cache

        path = settled.where
        return (CacheSource(path) if is_cache(path) else FolderSource(path)), True

    def _address(self) -> str | None:
        """The Hub's address, "" for the default one; None when the source is no Hub."""
        if self.where == "hub":
            return self.endpoint or ""
        if self.where.startswith("hub:"):
            address = self.where.removeprefix("hub:")
        elif "://" in self.where:
            # Of another kind too: it is no path, and may hold a password.
            address = self.where
        else:
            return None
        if self.endpoint and self.endpoint != address:
            given, other = _shown(address), _shown(self.endpoint)
            raise StopError(f"two addresses for one Hub: SOURCE {given} and --endpoint {other}")
        return address

    def _refuse_narrowing(self) -> None:
        given = {
            "--author": self.author,
            "--search": self.search,
            "--filter": self.filter,
            "--limit": self.limit,
            "--sort": self.sort != "createdAt",
            "--listing": self.listing,
            "--endpoint": self.endpoint,
        }
        options = [option for option, value in given.items() if value]
        if options:
            raise StopError(f"{', '.join(options)} is for a Hub; {plain(self.where)} is a path")


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts if host else None


def _shown(address: str) -> str:
    """The address without what may be a secret."""
    parts = _split(address)
    return plain(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}") if parts else "something else"


def _plain_address(address: str) -> str:
    """The address of a Hub as it may be stored. Raises StopError when it is none, or holds what must not be."""
    parts = _split(address)
    if parts is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise StopError(f"expected a Hub at http:// or https://, found {_shown(address)}")
    if "@" in parts.netloc:
        raise StopError(
            f"the address of {plain(parts.hostname or '')} holds a name or password, which would be stored; "
            "set HF_TOKEN instead"
        )
    return address
