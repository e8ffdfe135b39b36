"""The weights of Keras 3 (`.weights.h5`, and within `.keras`): a group a layer, whose variables are numbered.

`layers/dense_1/vars/0`: groups are called after the layer's class, in their order; `vars` says what the layer itself is
called. What a variable is follows from the class. Names are given as Keras 1 and 2 give them, so that one model has one
architecture in either (`crawl.formats.keras_names`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from crawl.formats.hdf5 import Hdf5, Node
from crawl.formats.keras_names import bare
from store.errors import SkipError

__all__ = ["Variable", "variables"]

MAX_DEPTH: Final = 64
"""Layers within layers. A path of a hundred thousand, which no model has, would cost its square."""

_GROUP: Final = "vars"
_TOP: Final = "top_level_model_weights"
_NO_LAYERS: Final = re.compile(r"optimizer|metrics|loss|seed_generators?|_?state_tree")
_NORMALIZED: Final = ("gamma", "beta", "moving_mean", "moving_variance")
_KINDS: Final = (
    (re.compile(r"batch_normalization"), _NORMALIZED),
    (re.compile(r"(layer|group|unit|rms|spectral)_normalization"), ("gamma", "beta")),
    (re.compile(r"embedding"), ("embeddings",)),
    (re.compile(r"(\w+_)?cell"), ("kernel", "recurrent_kernel", "bias")),
    (re.compile(r"separable_conv\w+"), ("depthwise_kernel", "pointwise_kernel", "bias")),
    (re.compile(r"depthwise_conv\w+"), ("depthwise_kernel", "bias")),
    (re.compile(r"(\w+_)?dense|conv\w+"), ("kernel", "bias")),
)


class Variable(NamedTuple):
    """A weight: its outermost layer, its path from there as TensorFlow would have it, and what opens it."""

    layer: str
    path: str
    open: Callable[[], Node | None]


def variables(opened: Hdf5) -> Iterator[Variable]:
    """The variables of all layers, in the order of the names of their groups. Raises what `Hdf5` raises, and
    SkipError("too_large") beyond MAX_DEPTH."""
    waiting: list[tuple[int, tuple[str, ...], str]] = [(opened.root_at, (), "")]
    seen = set()
    while waiting:
        at, path, key = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        group = opened.node(at)
        members = opened.members(group)
        held = members.pop(_GROUP, None)
        if held is not None:
            node = opened.node(held)
            # Releases before 3.1 do not say what a layer is called.
            name = next(iter(opened.strings(node, "name") or []), "") or key
            # The model itself is no layer, but may have weights.
            own = (*path, name.replace("/", "_")) if key else (_TOP,)
            if len(own) > MAX_DEPTH:
                raise SkipError("too_large", f"{opened.path}: expected at most {MAX_DEPTH} layers in layers")
            yield from _of_layer(opened, node, own, (bare(key), bare(name)))
            path = own if key else ()
        layers = (name for name in sorted(members, reverse=True) if key or not _NO_LAYERS.fullmatch(name))
        waiting += [(members[name], path, name) for name in layers]


def _of_layer(opened: Hdf5, node: Node, path: tuple[str, ...], kinds: tuple[str, str]) -> Iterator[Variable]:
    numbered = {name: at for name, at in opened.members(node).items() if name.isascii() and name.isdecimal()}
    names = _names(kinds, len(numbered))
    for place, number in enumerate(sorted(numbered, key=int)):
        last = names[place] if place < len(names) else number
        yield Variable(path[0], "/".join((*path, last)), partial(opened.node, numbered[number]))


def _names(kinds: tuple[str, str], count: int) -> tuple[str, ...]:
    """What the variables of a layer are, by its class or else by what it is called; nothing where that says nothing."""
    for kind in kinds:
        for known, names in _KINDS:
            if known.fullmatch(kind):
                # Without scale, or without scale and centre, there are fewer, and statistics are the last.
                return names[max(0, len(names) - count) :] if names is _NORMALIZED else names
    return ()
