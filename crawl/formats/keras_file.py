"""The weights of Keras and TensorFlow models in HDF5 (`save_weights` and `save` of Keras 1 and 2, transformers'
tf_model.h5), by range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from crawl.formats.entry import OnSkip, TensorEntry, Values
from crawl.formats.hdf5 import Dataset, Hdf5, Node
from crawl.formats.keras_names import keras_names
from crawl.formats.library_names import kernel_order
from crawl.formats.values import Stored, reordered
from crawl.names import escaped, is_plain
from crawl.source import FileRef, RangeReader
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["read_keras"]


def read_keras(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    """The weights of an HDF5 file of Keras, under PyTorch's names and in its order of axes.

    Raises SkipError: "empty_file", "lfs_pointer", "bad_header" for what is no HDF5 of Keras, and what `Hdf5` raises.
    Weights in chunks (compressed ones are) are told to `on_skip`.
    """
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected an HDF5 file, found 0 bytes")
    opened = Hdf5(reader)
    root = opened.child(opened.root, "model_weights") or opened.root
    layers = opened.strings(root, "layer_names")
    if layers is None:
        raise _bad(reader, "a weight file of Keras", "no attribute layer_names in it")
    groups = [(layer, _group(reader, opened, root, layer)) for layer in layers]
    weights = [(layer, name, group) for layer, group in groups for name in opened.strings(group, "weight_names") or []]
    names = keras_names([(layer, weight) for layer, weight, _ in weights])
    found: dict[str, TensorEntry] = {}
    for name, (_, weight, group) in zip(names, weights, strict=True):
        try:
            if not is_plain(name) or name in found:
                raise SkipError("bad_name", f"expected names, each once, found {escaped(name)!r}")
            node = opened.child(group, weight)
            if node is None:
                raise _bad(reader, f"weight {name}", "none")
            found[name] = _entry(reader, file, name, weight, opened.dataset(node))
        except SkipError as error:
            if on_skip is None or error.reason in ("truncated", "too_large"):
                raise
            on_skip(reader.path, escaped(name), error)
    return sorted(found.values(), key=lambda entry: (entry.start, entry.stop, entry.name))


def _group(reader: RangeReader, opened: Hdf5, root: Node, layer: str) -> Node:
    group = opened.child(root, layer)
    if group is None:
        raise _bad(reader, f"layer {escaped(layer)}", "none")
    return group


def _entry(reader: RangeReader, file: FileRef, name: str, stored_name: str, dataset: Dataset) -> TensorEntry:
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
    values: Values = Stored(file, start, dtype)
    order = kernel_order(stored_name, len(shape))
    if order is not None and elements:
        values, shape = reordered(values, shape, order, itemsize)
    return TensorEntry(name, dtype, shape, start, start + length, None if isinstance(values, Stored) else values)


def _bad(reader: RangeReader, expected: str, found: str) -> SkipError:
    return SkipError("bad_header", f"{reader.path}: expected {expected}, found {found}")
