"""Which of the things in a checkpoint are the model's weights, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from crawl.formats.torch_records import Opaque, Tensor

__all__ = ["state_dict"]

MAX_DEPTH: Final = 64
MAX_VISITED: Final = 1_000_000

# Where trainers put the weights in a checkpoint, best first.
_HOLDERS: Final = (
    *("state_dict", "model_state_dict", "model", "module", "params_ema", "params", "net", "network", "generator"),
    *("weights", "ema", "g_ema", "model_ema", "G", "netG", "teacher", "student", "encoder"),
)
# What trainers keep beside them.
_OTHERS: Final = re.compile(r"optim|sched|scaler|amp$|rng|callback|loops|history|loss|epoch|config|args|hyper|step")
_MODULE: Final = ("_parameters", "_buffers", "_modules")


def state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """The weights in what a pickle holds, by name joined with `.`; empty when there are none.

    A dictionary that holds tensors is taken as it is, with what is nested in it. One that holds none is a trainer's:
    the usual name for weights is looked at first, then whatever holds most tensors and is no optimizer. A module
    that was saved whole is named as its own state_dict would be.
    """
    content = _content(checkpoint)
    for _ in range(MAX_DEPTH):
        if content is None:
            return {}
        if any(isinstance(value, Tensor) for value in content.values()):
            return _flat(content)
        held = {name: inner for name, value in content.items() if (inner := _content(value)) is not None}
        if isinstance(next(iter(content), None), str) and _is_module(content):
            return _flat(content)
        found: dict[str, dict[Any, Any]] = {}
        for name in _HOLDERS:
            if name in held and _flat(held[name]):
                found = {name: held[name]}
                break
        if not found:
            counted = {
                name: (sum(1 for _ in _flat(inner)), inner)
                for name, inner in held.items()
                if not _OTHERS.search(str(name).lower())
            }
            # A nested dictionary of submodules {"encoder": {...}, "decoder": {...}} is one model.
            several = [name for name, (count, _) in counted.items() if count]
            if len(several) != 1:
                return _flat({name: counted[name][1] for name in several})
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


def _flat(content: dict[Any, Any]) -> dict[str, Tensor]:
    return dict(_walk(content))


def _walk(content: dict[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors below `content`; what is shared is looked at once, so that nothing unfolds."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    visited = 0
    while waiting:
        path, value, depth = waiting.pop()
        visited += 1
        if visited > MAX_VISITED:
            return
        if isinstance(value, Tensor):
            yield path, value
            continue
        inner = _content(value)
        if inner is None or depth > MAX_DEPTH or id(inner) in seen:
            continue
        seen.add(id(inner))
        parts: list[tuple[Any, Any]] = []
        if _is_module(inner):
            for member in _MODULE:
                parts += (inner.get(member) or {}).items() if isinstance(inner.get(member), dict) else ()
        else:
            parts += inner.items()
        for name, child in reversed(parts):
            # Names as long as the path is deep, for every tensor, would be quadratic.
            joined = f"{path}.{name}" if path else str(name)
            if len(joined) <= 2048:
                waiting.append((joined, child, depth + 1))
