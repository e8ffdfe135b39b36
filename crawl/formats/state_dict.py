"""Which of the things in a checkpoint are the model's weights, and what they are called."""

from __future__ import annotations

import re
from typing import Any, Final

from crawl.formats.torch_records import Opaque, Tensor
from store.errors import SkipError

__all__ = ["state_dict"]

MAX_DEPTH: Final = 64
MAX_PATH: Final = 2048
"""Characters of a name; none that is longer than half of it can be stored."""
MAX_VISITED: Final = 2_000_000
"""Entries of dictionaries that are looked at, in all walks over a checkpoint together."""

# Where trainers put the weights in a checkpoint, best first.
_HOLDERS: Final = (
    *("state_dict", "model_state_dict", "model", "module", "params_ema", "params", "net", "network", "generator"),
    *("weights", "ema", "g_ema", "model_ema", "G", "netG", "teacher", "student", "encoder"),
)
# What trainers keep beside them.
_OTHERS: Final = re.compile(r"optim|sched|scaler|amp$|rng|callback|loops|history|loss|epoch|config|args|hyper|step")
_MODULE: Final = ("_parameters", "_buffers", "_modules")


def state_dict(checkpoint: Any, shown: str) -> dict[str, Tensor]:
    """The weights in what a pickle holds, by name joined with `.`; empty when there are none.

    A dictionary that holds tensors is taken as it is, with what is nested in it. One that holds none is a trainer's:
    the usual name for weights is looked at first, then whatever holds most tensors and is no optimizer. A module
    that was saved whole is named as its own state_dict would be. Raises SkipError("too_large"), which says `shown`,
    for what is beyond MAX_VISITED.
    """
    walks = _Walks(shown)
    content = _content(checkpoint)
    for _ in range(MAX_DEPTH):
        if content is None:
            return {}
        if any(isinstance(value, Tensor) for value in content.values()):
            return walks.flat(content)
        held = {name: inner for name, value in content.items() if (inner := _content(value)) is not None}
        if isinstance(next(iter(content), None), str) and _is_module(content):
            return walks.flat(content)
        found: dict[str, dict[Any, Any]] = {}
        for name in _HOLDERS:
            if name in held and walks.flat(held[name]):
                found = {name: held[name]}
                break
        if not found:
            counted = {
                name: (len(walks.flat(inner)), inner)
                for name, inner in held.items()
                if not _OTHERS.search(str(name).lower())
            }
            # A nested dictionary of submodules {"encoder": {...}, "decoder": {...}} is one model.
            several = [name for name, (count, _) in counted.items() if count]
            if len(several) != 1:
                return walks.flat({name: counted[name][1] for name in several})
            found = {several[0]: counted[several[0]][1]}
        content = next(iter(found.values()))
    return {}


def _content(value: Any) -> dict[Any, Any] | None:
    """What a dictionary or an object with a state holds."""
    if isinstance(value, Opaque):
        value = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    return value if isinstance(value, dict) else None


def _is_module(content: dict[Any, Any]) -> bool:
    return all(isinstance(content.get(name), dict) for name in ("_parameters", "_modules"))


class _Walks:
    """Walks over one checkpoint. What several names lead to is looked at for each of them: all walks together are
    bounded."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._left = MAX_VISITED

    def flat(self, content: dict[Any, Any]) -> dict[str, Tensor]:
        """Tensors below `content` by name; within one walk what is shared is looked at once, so nothing unfolds."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Any, int]] = [("", content, 0)]
        seen: set[int] = set()
        while waiting:
            path, value, depth = waiting.pop()
            if isinstance(value, Tensor):
                found[path] = value
                continue
            inner = _content(value)
            if inner is None or depth > MAX_DEPTH or id(inner) in seen:
                continue
            seen.add(id(inner))
            parts = _parts(inner)
            self._left -= len(parts)
            if self._left < 0:
                raise SkipError("too_large", f"{self._shown}: expected at most {MAX_VISITED} entries in a checkpoint")
            for name, child in reversed(parts):
                # Names as long as the path is deep, for every tensor, would be quadratic.
                if len(path) + len(str(name)) < MAX_PATH:
                    waiting.append((f"{path}.{name}" if path else str(name), child, depth + 1))
        return found


def _parts(inner: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Names and what they lead to; of a module, its parameters, buffers and modules."""
    if not _is_module(inner):
        return list(inner.items())
    members = [inner.get(member) for member in _MODULE]
    return [part for member in members if isinstance(member, dict) for part in member.items()]
