"""What updates need of all models of a large tree: a prefix of their samples, kept beside the search vectors. All else
of a model's samples and projections is read when it is first looked at.

The file is derived data (`store.vectors`): a model that it does not hold is read and added, and where it is missing, or
of no use, all sketches are read. Families of other shapes have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.family import Family
from indexer.gathered import scatter
from indexer.samples import Samples
from indexer.unread import Rows, Unread, room
from store.dtypes import DTYPES
from store.vectors import Vectors, append_vectors, placed_vectors, read_vectors, write_vectors

__all__ = ["keep_prefixes", "read_by_row"]

_MANY: Final = 4
"""Where more than one model in so many is new, nearly all are looked at."""

Ints = NDArray[np.int64]
Load = Callable[[Sequence[int]], Family]


def keep_prefixes(folder: Path, family: Family) -> None:
    """Add the prefixes of a family's models to its file in a folder, if its sketches are as large as one another.

    Raises OSError when it cannot be written.
    """
    if family.samples.by_row or not _even(family):
        return
    path, layout = _path(folder, family), _layout(family)
    order, contents = _order(family)
    known = read_vectors(path, layout, family.model_ids[order], contents[order])
    missing = order if known is None else order[~np.isin(family.model_ids[order], known.model_ids)]
    if missing.size:
        told = Vectors(
            family.model_ids[missing], contents[missing], family.prefix[missing].astype(np.float32, copy=False)
        )
        (write_vectors if known is None else append_vectors)(path, layout, told)


def read_by_row(folder: Path, bare: Family, load: Load, tables: Callable[[Sequence[int]], list[Any]]) -> Family | None:
    """A family with prefixes at hand, whose samples and projections are read by row; None where that cannot be.

    `bare` is the family without them, `load` reads some of its models as they are, by their ids, and `tables` the
    columns `indexer.gathered.SAMPLED` of them and of others. What the file in the folder has not is added to it. Raises
    OSError when it cannot be written.
    """
    n = len(bare)
    if not (bare.tensors and all(_exact(tensor.dtypes) for tensor in bare.tensors)):
        return None
    whole = np.flatnonzero(np.all([tensor.present for tensor in bare.tensors], axis=0))
    if not whole.size:
        return None
    # The newest is the likeliest not to be in the file yet.
    latest = whole[np.argmax(bare.model_ids[whole])]
    example = load([int(bare.model_ids[latest])])
    order, contents = _order(bare)
    path, layout = _path(folder, example), _layout(example)
    known = placed_vectors(path, layout, bare.model_ids[order], contents[order])
    if known is None or not _same_sizes(example, bare):
        return None
    prefix, there = known
    missing = order[~there]
    if missing.size * _MANY > n:
        return None
    arrays = _Arrays(bare, example)
    unread = Unread(n, lambda rows: arrays.fill(tables(bare.model_ids[rows].tolist())))
    if missing.size:
        some = example if missing.tolist() == [latest] else load(bare.model_ids[missing].tolist())
        if not _even(some) or not _same_sizes(example, some):
            return None
        unread.note(arrays.fill(tables(some.model_ids.tolist())))
        prefix[~there] = arrays.prefix(missing)
        append_vectors(path, layout, Vectors(bare.model_ids[missing], contents[missing], prefix[~there]))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    return arrays.family(unread, (prefix, place))


class _Arrays:
    """Samples and projections of a family's n models, with room for all; `example` has one of them."""

    def __init__(self, bare: Family, example: Family) -> None:
        n = len(bare)
        self._bare, self._example = bare, example
        self._measured = room((n, example.samples.shape[1]), np.float32)
        views = zip(example.measured, example.starts[:-1].tolist(), example.starts[1:].tolist(), strict=True)
        self._samples = {tensor.name: self._measured[:, first:last] for tensor, first, last in views}
        for tensor in example.tensors:
            if tensor.name not in self._samples:
                self._samples[tensor.name] = room((n, tensor.samples.shape[1]), np.float32)
        self._projections = {
            name: room((n, values.shape[1]), np.float32) for name, values in example.projections.items()
        }

    def fill(self, tables: list[Any]) -> Ints:
        """Put in what tables hold; returns the rows of whom they do."""
        present = {tensor.name: tensor.present for tensor in self._bare.tensors}
        samples = {name: (present[name], values) for name, values in self._samples.items()}
        return scatter(tables, self._bare.model_ids, samples, self._projections)

    def prefix(self, rows: Ints) -> NDArray[np.float32]:
        """Of rows that are filled, as `Family.prefix`."""
        spans = zip(self._example.starts[:-1].tolist(), self._example.prefix_sizes, strict=True)
        return np.concatenate([self._measured[rows, first : first + size] for first, size in spans], axis=1)

    def family(self, unread: Unread, prefix: tuple[NDArray[np.float32], Ints]) -> Family:
        """The family of all, unread, with the prefixes of all and where each model's are."""
        rows = np.arange(len(self._bare))
        tensors = tuple(
            replace(tensor, samples=Samples(self._samples[tensor.name], rows, None, unread))
            for tensor in self._bare.tensors
        )
        projections = {name: Rows(held, rows, unread) for name, held in self._projections.items()}
        family = replace(self._bare, tensors=tensors, projections=projections, kept_prefix=prefix)
        family.__dict__["samples"] = Samples(self._measured, rows, None, unread)
        return family.joined()


def _exact(dtypes: NDArray[np.object_]) -> bool:
    """Does float32 hold whatever is stored in these?"""
    return all(not dtype or np.can_cast(DTYPES[dtype], np.float32) for dtype in set(dtypes.tolist()))


def _even(family: Family) -> bool:
    """Has each model as many samples of a tensor, and as large a projection of it, as all that have the tensor?"""
    present = {tensor.name: tensor.present for tensor in family.tensors}
    return all(tensor.even and _exact(tensor.dtypes) for tensor in family.tensors) and not any(
        np.isnan(values[present[name], 0]).any() for name, values in family.projections.items()
    )


def _same_sizes(one: Family, other: Family) -> bool:
    """Is what the other's sketches say of a tensor of as many values, as far as it tells?"""
    sizes = {t.name: (t.shape, t.covered, t.samples.shape[1]) for t in one.tensors}
    projected = {name: values.shape[1] for name, values in one.projections.items()}
    return all(
        t.name in sizes
        and sizes[t.name][:2] == (t.shape, t.covered)
        and (not t.samples.shape[1] or sizes[t.name][2] == t.samples.shape[1])
        for t in other.tensors
    ) and all(values.shape[1] == projected.get(name) for name, values in other.projections.items())


def _path(folder: Path, family: Family) -> Path:
    """Named by all that its models' samples and projections are of."""
    told = [(t.name, t.shape, t.role, t.covered, t.samples.shape[1]) for t in family.tensors]
    projected = sorted((name, values.shape[1]) for name, values in family.projections.items())
    digest = blake3(f"{told} {projected}".encode()).hexdigest(length=8)
    return folder / f"{family.architecture}.{digest}.vectors"


def _layout(family: Family) -> dict[str, int]:
    return {tensor.name: size for tensor, size in zip(family.measured, family.prefix_sizes, strict=True)}


def _order(family: Family) -> tuple[Ints, NDArray[np.uint64]]:
    """(rows by rising id, n x 2: contents)."""
    return np.argsort(family.model_ids, kind="stable"), family.content_keys.view(np.uint64).reshape(-1, 2)
