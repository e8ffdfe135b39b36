"""The names of a Keras file's weights, as PyTorch would have them: the same whenever and wherever the file was saved.

Keras names layers after their class and counts all of a process. Two files of one model, one of which was saved after
other models were built or loaded, call one layer conv1d_1 and conv1d_14, and its weights conv1d_1/kernel and
conv1d_1_2/kernel. So what is counted is counted anew within the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final

from crawl.formats.library_names import last_part

__all__ = ["bare", "from_keras", "keras_names"]

# transformers writes `layer_._0` for the list item layer.0.
_LIST: Final = "_._"
_NUMBERED: Final = re.compile(r"(.+)_([0-9]{1,9})")
# Later releases put the cell between a recurrent layer and its weights.
_CELL: Final = re.compile(r"((lstm|gru|simple_rnn)_)?cell(_[0-9]+)*")

Weight = tuple[str, str]
"""A layer, and the TensorFlow path of a weight of it, such as `dense_1/kernel:0`."""


def keras_names(weights: Sequence[Weight]) -> list[str]:
    """The name of each weight of a file. Where two would have one name, they keep the names that the file gives them,
    of which two may be equal."""
    plain = [from_keras(layer, weight) for layer, weight in weights]
    if any(_is_transformers(weight) for _, weight in weights):
        # It names all layers itself.
        return plain
    for told in (_counted([_without_scopes(*each) for each in weights]), _counted(plain)):
        if len(set(told)) == len(told):
            return told
    return plain


def from_keras(layer: str, weight: str) -> str:
    """`weight` of `layer`, a TensorFlow path such as `tf_bert_model/bert/encoder/layer_._0/dense/kernel:0`."""
    parts = _parts(weight)
    if len(parts) > 1 and (parts[0] == layer or parts[0].startswith("tf_")):
        parts = parts[1:]
    if _is_transformers(weight):
        # The first part is the class, which repeats the layer: bert/encoder/... stays as it is.
        return ".".join([*parts[:-1], last_part(parts[-1])])
    if parts[0] != layer:
        parts = [layer, *parts]
    return ".".join([*parts[:-1], last_part(parts[-1])])


def _without_scopes(layer: str, weight: str) -> str:
    """As `from_keras`, without the layer's scopes, which may have other numbers than the layer, and that of the model
    before them, and without cells."""
    *path, last = _parts(weight)
    scopes = [bare(part) == bare(layer) for part in path]
    first = scopes.index(True) if True in scopes else 0
    path = path[first + sum(1 for _ in takewhile(bool, scopes[first:])) :]
    path = [part for part in path if not _CELL.fullmatch(part)]
    return ".".join([layer, *path, last_part(last)])


def _counted(names: Sequence[str]) -> list[str]:
    """The names with what is numbered counted from the first of its kind in the file, in the order of the numbers: it
    is that in which the layers were made. The first has none, as in newer releases."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        for part in name.split(".")[:-1]:
            stem, number = _number(part)
            numbers[stem].add(number)
    places = {stem: {number: at for at, number in enumerate(sorted(there))} for stem, there in numbers.items()}

    def counted(part: str) -> str:
        stem, number = _number(part)
        at = places[stem][number]
        return f"{stem}_{at}" if at else stem

    return [_each(name, counted) for name in names]


def _each(name: str, told: Callable[[str], str]) -> str:
    *path, last = name.split(".")
    return ".".join([*map(told, path), last])


def _number(part: str) -> tuple[str, int]:
    """A part without its number, and the number."""
    found = _NUMBERED.fullmatch(part)
    return (found[1], int(found[2])) if found else (part, -1)


def bare(part: str) -> str:
    """A layer's name or class without its numbers."""
    return re.sub(r"(_[0-9]+)+$", "", part)


def _parts(weight: str) -> list[str]:
    return re.sub(r":\d+$", "", weight).replace(_LIST, "/").split("/")


def _is_transformers(weight: str) -> bool:
    return _LIST in weight or weight.startswith("tf_")
