"""Which source of models a command means: a folder, a cache of huggingface_hub, or a Hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from modelkin.plain import plain
from store.errors import StopError

if TYPE_CHECKING:
    from crawl.source import Source

__all__ = ["DEFAULT_BUDGET", "SourceChoice"]

DEFAULT_BUDGET: Final = 64 * 2**20
"""Bytes a model that are read from a Hub."""


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """What the user asked to read; plain values only, since the scheduler keeps it on disk.

    `where` is `hub`, `hub:URL`, an address, or a path. The rest narrows a Hub's listing. There is no token here:
    it comes from HF_TOKEN or the login of `hf auth login`.
    """

    where: str = "hub"
    endpoint: str | None = None
    author: str | None = None
    search: str | None = None
    filter: tuple[str, ...] = ()
    limit: int | None = None

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
        if not address:
            return replace(self, where="hub", endpoint=None)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise StopError(f"expected a Hub at http:// or https://, found {plain(address)}")
        if "@" in parts.netloc:
            raise StopError(
                f"the address of {plain(parts.hostname)} holds a name or password, which would be stored; "
                "set HF_TOKEN instead"
            )
        return replace(self, where="hub", endpoint=address)

    def open(self) -> tuple[Source, bool]:
        """The source, and whether its listing covers all of it, so that what is missing there is gone."""
        settled = self.settled()
        if settled.where == "hub":
            from crawl.hub import HubSource

            hub = HubSource(
                endpoint=settled.endpoint,
                author=self.author,
                search=self.search,
                filter=list(self.filter) or None,
                limit=self.limit,
            )
            return hub, not self._narrowings()
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
        elif self.where.startswith(("http://", "https://")):
            address = self.where
        else:
            return None
        if self.endpoint and self.endpoint != address:
            raise StopError(f"two addresses for one Hub: SOURCE {plain(address)} and --endpoint {plain(self.endpoint)}")
        return address

    def _narrowings(self) -> list[str]:
        given = {
            "--author": self.author,
            "--search": self.search,
            "--filter": self.filter,
            "--limit": self.limit,
        }
        return [option for option, value in given.items() if value]

    def _refuse_narrowing(self) -> None:
        options = self._narrowings() + (["--endpoint"] if self.endpoint else [])
        if options:
            raise StopError(f"{', '.join(options)} is for a Hub; {plain(self.where)} is a path")
