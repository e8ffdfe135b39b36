"""What was found out before from the same contents: a pure function's answers, kept from one update to the next.

An answer is kept with a digest of all that it was computed from. So it holds whatever came or went since, and a graph
with a memory equals one without. Of each model (by its content) and kind of question one answer is kept, the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.forks import gains, in_fork, in_turns
from store.answers import Answers

__all__ = ["NOTHING", "RECORD", "SOLVER_VERSION", "Fetched", "Memo"]

SOLVER_VERSION: Final = 14
"""Of what is computed: answers of other versions are not used. Count it up when any of it changes."""

RECORD: Final = "tree "
"""How kinds begin of what is kept of a whole tree, with one of its models."""
_NOTHING: Final = b""
NOTHING: Final = _NOTHING, _NOTHING
"""(digest, answer) where nothing was noted."""


class Fetched(Mapping[tuple[str, str], tuple[bytes, bytes]]):
    """Answers that are fetched for whom they are asked about: of a large tree those are few."""

    def __init__(self, fetch: Callable[[list[str]], Answers]) -> None:
        """`fetch` gives the answers about models of some contents, each asked once."""
        self._fetch = fetch
        self._asked: set[str] = set()
        self._let_go: set[tuple[str, str]] = set()
        self.held: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        """What was fetched."""

    def want(self, contents: Iterable[str]) -> None:
        """Fetch what is known of these."""
        new = sorted(set(contents) - self._asked)
        if new and not in_fork():
            self._asked.update(new)
            self.held.update(self._fetch(new))

    def let_go(self, key: tuple[str, str]) -> None:
        """Hold an answer no longer; it is fetched again if it is asked for again."""
        self._let_go.add(key)
        self.held.pop(key, None)

    def __getitem__(self, key: tuple[str, str]) -> tuple[bytes, bytes]:
        if key in self._let_go and not in_fork():
            self._let_go.discard(key)
            self.held.update(self._fetch([key[0]]))
        self.want(key[:1])
        return self.held[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


class Memo:
    """`stored` is (content, kind) -> (digest, answer); without it nothing is known.

    `among` says of which tensors all questions are: those that a component's models have. Where many are asked, so many
    `processes` do.
    """

    def __init__(self, stored: Answers | None = None, among: str = "", processes: int = 1) -> None:
        self._stored: Answers = {} if stored is None else stored
        self.processes = processes
        self._ahead: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._asked = blake3(f"{SOLVER_VERSION}\n{among}".encode()).digest(16)
        self.used: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        """All questions that were asked, with their answers: what is worth keeping."""

    @property
    def asked(self) -> bytes:
        """16 bytes over what all questions are about, and the version of the solver."""
        return self._asked

    @property
    def lasting(self) -> bool:
        """Does what is not asked stay as it is?"""
        return isinstance(self._stored, Fetched)

    def want(self, contents: Iterable[str]) -> None:
        """More will be asked about these: what is known of them may have to be fetched."""
        if isinstance(self._stored, Fetched):
            self._stored.want(contents)

    def ahead(self, rows: Sequence[int], ask: Callable[[list[int]], object]) -> None:
        """Have some processes put the questions that `ask` puts about some rows: whoever puts them again, finds them
        answered. Does nothing where that gains nothing."""
        if not gains(len(rows), self.processes):
            return

        def answers(some: list[int]) -> dict[tuple[str, str], tuple[bytes, bytes]]:
            before = self.used
            self.used = {}
            try:
                ask(some)
                return self.used
            finally:
                self.used = before

        for _, found in in_turns(rows, self.processes, answers):
            self._ahead.update(found)

    def _known(self, key: tuple[str, str]) -> tuple[bytes, bytes] | None:
        return self._ahead[key] if key in self._ahead else self._stored.get(key)

    def look(self, kind: str, content: str, inputs: Iterable[str] | bytes) -> tuple[bytes, bytes | None]:
        """(digest of a question about a model, the answer if it is known from the same inputs)."""
        told = inputs if isinstance(inputs, bytes) else "\n".join(inputs).encode()
        digest = blake3(b"\n".join((self._asked, kind.encode(), content.encode(), told))).digest(16)
        known = self._known((content, kind))
        if known is None or known[0] != digest:
            return digest, None
        self.used[content, kind] = known
        return known

    def keep(self, kind: str, content: str, digest: bytes, answer: bytes) -> bytes:
        """Note an answer; returns it."""
        self.used[content, kind] = digest, answer
        return answer

    def held(self, kind: str, content: str) -> memoryview:
        """What `hold` noted last, of these tensors and this version; nothing where it noted nothing."""
        answer = memoryview((self._known((content, kind)) or NOTHING)[1])
        return answer[16:] if answer[:16] == self._asked else answer[:0]

    def hold(self, kind: str, content: str, *told: bytes | memoryview) -> None:
        """Note what is worth having again, whatever else there is: it says itself what it holds for."""
        self.used[content, kind] = b"", b"".join((self._asked, *told))

    def let_go(self, kind: str, content: str) -> None:
        """What `hold` noted last was looked at, and is not likely to be again: it may be large."""
        if isinstance(self._stored, Fetched):
            self._stored.let_go((content, kind))

    def hold_on(self, kind: str, content: str, beside: str = "") -> None:
        """Note again what `hold` noted last, if it did: it was not asked, but holds. If the answer of kind `beside` is
        a new one, only what was noted with it."""
        known = self._ahead.get((content, kind)) if (content, beside) in self._ahead else self._known((content, kind))
        if known is not None:
            self.used[content, kind] = known

    def items(self, kind: str, content: str, size: int = 0) -> dict[bytes, bytes]:
        """What `keep_items` noted, of these tensors and this version: 16 bytes -> `size` bytes each."""
        held = bytes(self.held(kind, content))
        return {held[at : at + 16]: held[at + 16 : at + 16 + size] for at in range(0, len(held), 16 + size)}

    def keep_items(self, kind: str, content: str, items: Mapping[bytes, bytes]) -> None:
        """Note what holds of a model and each of some others (keys of 16 bytes), whatever else there is."""
        self.hold(kind, content, b"".join(key + value for key, value in sorted(items.items())))

    def answer(self, kind: str, content: str, inputs: Iterable[str] | bytes, compute: Callable[[], bytes]) -> bytes:
        """The answer to a question about a model, computed unless it is known from the same inputs."""
        digest, known = self.look(kind, content, inputs)
        return self.keep(kind, content, digest, compute()) if known is None else known

    def is_so(self, kind: str, content: str, inputs: Iterable[str] | bytes, compute: Callable[[], bool]) -> bool:
        """As `answer`, of a question that is answered by yes or no."""
        return self.answer(kind, content, inputs, lambda: b"1" if compute() else _NOTHING) != _NOTHING

    def numbers(
        self, kind: str, content: str, inputs: Iterable[str] | bytes, compute: Callable[[], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """As `answer`, of one that is answered by float64 numbers, a flat array."""
        return np.frombuffer(self.answer(kind, content, inputs, lambda: compute().astype(np.float64).tobytes()))
