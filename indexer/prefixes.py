"""What updates need of all models of a large tree: a prefix of their samples, and what else their sketches say
(`indexer.bare`), kept beside the search vectors. Samples and projections are read when they are first looked at.

The file is derived data (`store.vectors`): a model that it does not hold is read and added, and where it is missing, or
of no use, all sketches are read. Families of other shapes have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.bare import Who, packed, unpacked, words
from indexer.derived import short_rows
from indexer.family import Family, content_keys
from indexer.row_arrays import OftenRead, RowArrays, keep_often_read
from indexer.unread import Unread
from store.dtypes import DTYPES
from store.vectors import Vectors, append_vectors, has_layout, let_go, mapped_vectors, shown_vectors, write_vectors

__all__ = ["keep_prefixes", "read_by_row"]

_MANY: Final = 4
"""Where more than one model in so many is new, nearly all are looked at."""

Ints = NDArray[np.int64]


def keep_prefixes(folder: Path, family: Family) -> None:
    """Add the prefixes of a family's models to its file in a folder, if its sketches are as large as one another.

    Raises OSError when it cannot be written.
    """
    if family.samples.by_row or not _even(family):
        return
    path, layout = _path(folder, family), _layout(family)
    order, contents = _order(family)
    known = mapped_vectors(path, layout, family.model_ids[order], contents[order])
    missing = order if known is None else order[known[1] < 0]
    if missing.size:
        some = family.take(missing)
        values = np.concatenate([some.prefix.astype(np.float32, copy=False), packed(some, family)], axis=1)
        (append_vectors if has_layout(path, layout) else write_vectors)(
            path, layout, Vectors(some.model_ids, _contents(some), values)
        )
        keep_often_read(path, family, missing[short_rows(family)[missing]])


def read_by_row(
    folder: Path,
    who: Who,
    quantized: frozenset[int],
    load: Callable[[Sequence[int]], Family],
    tables: Callable[[Sequence[int]], list[Any]],
) -> Family | None:
    """A family with prefixes at hand, whose samples and projections are read by row; None where that cannot be.

    `load` reads some of its models as they are, by their ids, and `tables` the columns `indexer.gathered.SAMPLED` of
    them and of others. What the file in the folder has not is added to it. Raises OSError when it cannot be written.
    """
    ids = np.array([model[0] for model in who], np.int64)
    # The newest is the likeliest not to be in the file yet; but it may lack a tensor that others have.
    for model in dict.fromkeys((int(ids.max()), int(ids.min()))):
        example = load([model])
        path, layout = _path(folder, example), _layout(example)
        if example.tensors and path.exists():
            break
    else:
        return None
    order = np.argsort(ids, kind="stable")
    keys = content_keys(tuple(model[2] for model in who))
    contents = keys.view(np.uint64).reshape(-1, 2)[order]
    known = mapped_vectors(path, layout, ids[order], contents)
    missing = order if known is None else order[known[1] < 0]
    if known is None or missing.size * _MANY > len(ids):
        return None
    values, there = known
    new: list[Any] = []
    if missing.size:
        some = example if ids[missing].tolist() == [model] else load(ids[missing].tolist())
        if not _even(some) or not _same_sizes(example, some):
            return None
        new = tables(some.model_ids.tolist())
        first = append_vectors(path, layout, _added(some, example, new))
        there[np.searchsorted(ids[order], some.model_ids)] = first + np.arange(len(some))
        shown = shown_vectors(path, layout)
        if shown is None or (there < 0).any():
            return None
        values = shown
    places = np.empty_like(order)
    places[order] = there
    size = sum(example.prefix_sizes)
    bare = unpacked(values[:, size:], places, example, who, quantized)
    let_go(values)
    if not all(_exact(tensor.dtypes) for tensor in bare.tensors):
        return None
    bare.__dict__["content_keys"] = keys
    arrays = RowArrays(bare, example)
    read = OftenRead(path, arrays, contents[np.argsort(order)], short_rows(bare), tables)
    unread = Unread(len(ids), read)
    unread.note(arrays.fill(new))
    return arrays.family(unread, (values[:, :size], places))


def _added(family: Family, example: Family, tables: list[Any]) -> Vectors:
    """The records of a family's models, which lack no tensor that `example` lacks."""
    told = packed(family, example)
    who = list(
        zip(family.model_ids.tolist(), family.names, family.content_hashes, family.created.tolist(), strict=True)
    )
    arrays = RowArrays(unpacked(told, np.arange(len(family)), example, who), example)
    rows = arrays.fill(tables)
    return Vectors(family.model_ids, _contents(family), np.concatenate([arrays.prefix(rows), told], axis=1))


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
    prefix = {tensor.name: size for tensor, size in zip(family.measured, family.prefix_sizes, strict=True)}
    return {**prefix, **words(family)}


def _contents(family: Family) -> NDArray[np.uint64]:
    """n x 2."""
    return family.content_keys.view(np.uint64).reshape(-1, 2)


def _order(family: Family) -> tuple[Ints, NDArray[np.uint64]]:
    """(rows by rising id, n x 2: contents)."""
    return np.argsort(family.model_ids, kind="stable"), _contents(family)
