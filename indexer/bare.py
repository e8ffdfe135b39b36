"""What sketches say of a model beside its samples and projections, as a record of one size: numbers, hashes and dtypes
of each tensor. Of a large tree they lie in one file, where shards would have to be opened one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family, TensorColumn
from indexer.samples import Samples

__all__ = ["Who", "packed", "unpacked", "words"]

_NUMBERS: Final = ("sum_squares", "mean", "m2", "m4", "minimum", "maximum")
_TENSOR: Final = np.dtype(
    [*((name, "<f8") for name in _NUMBERS), ("zeros", "<i8"), ("hash", "V16"), ("dtype", "S15"), ("present", "?")]
)
"""A whole number of words, as is the counter that comes before the tensors."""

Ints = NDArray[np.int64]
Who = Sequence[tuple[int, str, str, float]]
"""(model id, name, content hash, created) of n models."""


def words(family: Family) -> dict[str, int]:
    """Part of a record -> how many float32 it is long."""
    told = {f"{tensor.name} told": _TENSOR.itemsize // 4 for tensor in family.tensors}
    return {"counters": 2, **told}


def packed(family: Family, example: Family) -> NDArray[np.float32]:
    """The records of n models, n x W, of the tensors of `example`: bytes that are looked at as float32."""
    records = np.zeros(len(family), _record(len(example.tensors)))
    records["counters"] = family.counters
    own = {tensor.name: tensor for tensor in family.tensors}
    for at, name in enumerate(tensor.name for tensor in example.tensors):
        if name not in own:
            continue
        told = records["tensors"][:, at]
        for number in (*_NUMBERS, "zeros", "present"):
            told[number] = getattr(own[name], number)
        told["hash"] = np.array([each.ljust(16, b"\0") for each in own[name].hashes], "V16")
        told["dtype"] = own[name].dtypes.astype("S15")
    return records.view(np.float32).reshape(len(family), -1)


def unpacked(
    values: NDArray[np.float32], rows: Ints, example: Family, who: Who, quantized: frozenset[int] = frozenset()
) -> Family:
    """The family of n models, without samples and projections, whose records are `rows` of `values`; their tensors are
    those of `example`."""
    records = np.ascontiguousarray(values[rows]).view(_record(len(example.tensors))).reshape(-1)
    nothing = Samples(np.zeros((len(rows), 0), np.float32))
    return Family(
        example.architecture,
        np.array([model[0] for model in who], np.int64),
        tuple(model[1] for model in who),
        tuple(model[2] for model in who),
        np.array([model[3] for model in who], np.float64),
        records["counters"].copy(),
        tuple(_column(tensor, records["tensors"][:, at], nothing) for at, tensor in enumerate(example.tensors)),
        {},
        quantized,
    )


def _column(tensor: TensorColumn, told: NDArray[np.void], samples: Samples) -> TensorColumn:
    present = told["present"].copy()
    hashes, dtypes = np.full(len(told), b"", object), np.full(len(told), "", object)
    hashes[present] = told["hash"][present].tolist()
    # A dtype is one object, whoever has it.
    kinds, which = np.unique(told["dtype"], return_inverse=True)
    dtypes[:] = kinds.astype(str).astype(object)[which]
    return TensorColumn(
        name=tensor.name,
        shape=tensor.shape,
        role=tensor.role,
        samples=samples,
        present=present,
        sum_squares=told["sum_squares"].copy(),
        mean=told["mean"].copy(),
        m2=told["m2"].copy(),
        m4=told["m4"].copy(),
        minimum=told["minimum"].copy(),
        maximum=told["maximum"].copy(),
        zeros=told["zeros"].copy(),
        hashes=hashes,
        dtypes=dtypes,
        covered=tensor.covered,
    )


def _record(tensors: int) -> np.dtype[Any]:
    return np.dtype([("counters", "<f8"), ("tensors", _TENSOR, (tensors,))])
