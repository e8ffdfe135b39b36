"""The weights of Keras and TensorFlow models in HDF5, by range: `save_weights` and `save` of Keras 1, 2 and 3,
transformers' tf_model.h5, and .keras, which is a zip file with one in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from crawl.formats.entry import OnSkip, TensorEntry, Values
from crawl.formats.hdf5 import Dataset, Hdf5, Node
from crawl.formats.keras_names import keras_names
from crawl.formats.keras_variables import Variable, variables
from crawl.formats.library_names import kernel_order
from crawl.formats.part_reader import PartReader
from crawl.formats.values import Stored, reordered
from crawl.formats.zip_directory import data_start, read_directory
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_keras"]

MAX_NAMES: Final = 8 << 20
"""Characters: a model of 1,000 layers has some 100,000."""
_WEIGHTS: Final = "model.weights.h5"
_DEPTHWISE: Final = re.compile(r"(?<![^/])(depthwise_conv\w*)/kernel(?=:|$)")


def read_keras(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The weights of an HDF5 file of Keras, under PyTorch's names and in its order of axes.

    Raises SkipError: "empty_file", "lfs_pointer", "bad_header" for what is no HDF5 of Keras, and what `Hdf5` raises.
    Weights in chunks (compressed ones are) are told to `on_skip`.
    """
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected an HDF5 file, found 0 bytes")
    part = _within(reader)
    opened = Hdf5(part)
    root = opened.child(opened.root, "model_weights") or opened.root
    layers = opened.strings(root, "layer_names")
    weights = _bounded(part, variables(opened) if layers is None else _weights(part, opened, root, layers))
    if layers is None and not weights:
        raise _bad(reader, "a weight file of Keras", "no attribute layer_names in it, and no variables")
    names = keras_names([(layer, weight) for layer, weight, _ in weights])
    found: dict[str, TensorEntry] = {}
    for name, (_, weight, open_node) in zip(names, weights, strict=True):
        try:
            if not is_plain(name) or name in found:
                raise SkipError("bad_name", f"expected names, each once, found {escaped(name)!r}")
            node = open_node()
            if node is None:
                raise _bad(reader, f"weight {name}", "none")
            found[name] = _entry(part, file, name, weight, opened.dataset(node))
        except SkipError as error:
            if on_skip is None or error.reason in ("truncated", "too_large"):
                raise
            on_skip(reader.path, escaped(name), error)
    return sorted(found.values(), key=lambda entry: (entry.start, entry.stop, entry.name))


def _within(reader: RangeReader) -> PartReader:
    """The HDF5 file: all of it, or what a .keras holds."""
    magic = bytearray(min(4, reader.size))
    reader.read_into(0, memoryview(magic))
    if magic != b"PK\3\4":
        return PartReader(reader, 0, reader.size)
    entry = read_directory(reader).get(_WEIGHTS)
    if entry is None:
        raise _bad(reader, f"{_WEIGHTS} in a .keras file", "none")
    if entry.compressed:
        raise SkipError("unsupported_format", f"{reader.path}: expected {_WEIGHTS} as it is, found it compressed")
    return PartReader(reader, data_start(reader, entry), entry.size)


def _weights(reader: PartReader, opened: Hdf5, root: Node, layers: Sequence[str]) -> Iterator[Variable]:
    """The weights that Keras 1 and 2 list, layer by layer."""
    for layer in layers:
        group = opened.child(root, layer)
        if group is None:
            raise _bad(reader, f"layer {escaped(layer)}", "none")
        for name in opened.strings(group, "weight_names") or []:
            yield Variable(layer, name, partial(opened.child, group, name))


def _bounded(reader: PartReader, weights: Iterable[Variable]) -> list[Variable]:
    """All of them; what a file says once may be the name of many."""
    found, left = [], MAX_NAMES
    for weight in weights:
        left -= len(weight.layer) + len(weight.path)
        if left < 0:
            raise SkipError(
                "too_large", f"{reader.path}: expected names of {MAX_NAMES} characters together, found more"
            )
        found.append(weight)
    return found


def _entry(reader: PartReader, file: FileRef, name: str, stored_name: str, dataset: Dataset) -> TensorEntry:
    dtype, shape = dataset.dtype, dataset.shape
    if dtype is None:
        raise SkipError("unknown_dtype", f"{reader.path}: tensor {name}: expected little-endian numbers")
    itemsize = DTYPES[dtype].itemsize
    elements = math.prod(shape)
    start, length = dataset.start, elements * itemsize
    if dataset.length != length or start + length > reader.size:
        # Nothing was written of an empty one, so it has no place either.
        if elements:
            raise SkipError(
                "truncated",
                f"{reader.path}: tensor {name}: expected {length} bytes at {start}, found {dataset.length} in a file "
                f"of {reader.size}",
            )
        start = 0
    start += reader.start
    values: Values = Stored(file, start, dtype)
    # Keras 3 calls a depthwise kernel a kernel.
    order = kernel_order(_DEPTHWISE.sub(r"\1/depthwise_kernel", stored_name), len(shape))
    if order is not None and elements:
        values, shape = reordered(values, shape, order, itemsize)
    return TensorEntry(name, dtype, shape, start, start + length, None if isinstance(values, Stored) else values)


def _bad(reader: RangeReader | PartReader, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{reader.path}: expected {expected}, found {found}")
