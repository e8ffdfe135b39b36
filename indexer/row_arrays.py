"""Samples and projections of a large tree's models, filled row by row; those that each update looks at have a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family
from indexer.forks import in_fork
from indexer.gathered import scatter
from indexer.samples import Samples
from indexer.unread import Rows, Unread, room
from store.vectors import Vectors, append_vectors, has_layout, mapped_vectors, write_vectors

__all__ = ["OftenRead", "RowArrays", "keep_often_read"]

Ints = NDArray[np.int64]


class RowArrays:
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

    @property
    def sizes(self) -> dict[str, int]:
        """Part of a model's row -> how many values it has."""
        samples = {name: values.shape[1] for name, values in self._samples.items()}
        projections = {f"{name} projected": values.shape[1] for name, values in self._projections.items()}
        return {name: size for name, size in {**samples, **projections}.items() if size}

    @property
    def model_ids(self) -> Ints:
        """n."""
        return self._bare.model_ids

    def whole(self, rows: Ints) -> NDArray[np.float32]:
        """All that is held of some rows, side by side as in `sizes`."""
        return np.concatenate([values[rows] for values in self._parts()], axis=1)

    def put(self, rows: Ints, whole: NDArray[np.float32]) -> None:
        """Hold this of some rows."""
        first = 0
        for values in self._parts():
            values[rows] = whole[:, first : first + values.shape[1]]
            first += values.shape[1]

    def _parts(self) -> list[NDArray[np.float32]]:
        return [*self._samples.values(), *self._projections.values()]

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


def keep_often_read(prefixes: Path, family: Family, rows: Ints) -> None:
    """Put some rows of a family, of which all is at hand, into the file of those that are read often.

    Raises OSError when it cannot be written.
    """
    if not rows.size:
        return
    measured = {tensor.name for tensor in family.measured}
    tensors = [*family.measured, *(tensor for tensor in family.tensors if tensor.name not in measured)]
    parts = {tensor.name: np.asarray(tensor.samples[rows], np.float32) for tensor in tensors}
    parts |= {f"{name} projected": np.asarray(values[rows]) for name, values in family.projections.items()}
    sizes = {name: values.shape[1] for name, values in parts.items() if values.shape[1]}
    path, ids = _often(prefixes), family.model_ids[rows]
    contents = family.content_keys[rows].view(np.uint64).reshape(-1, 2)
    order = np.argsort(ids, kind="stable")
    told = Vectors(ids[order], contents[order], np.concatenate([*parts.values()], axis=1)[order])
    (append_vectors if has_layout(path, sizes) else write_vectors)(path, sizes, told)


def _often(prefixes: Path) -> Path:
    return prefixes.with_suffix(".often.vectors")


class OftenRead:
    """Fills rows of arrays, of those that are read `often` from a file of their own: who comes is compared with each
    model in eight bits, and each lies in another row group of another shard.

    Derived data, as prefixes are: what the file has not is added to it.
    """

    def __init__(
        self,
        prefixes: Path,
        arrays: RowArrays,
        contents: NDArray[np.uint64],
        often: NDArray[np.bool_],
        tables: Callable[[Sequence[int]], list[Any]],
    ) -> None:
        """n `contents` of 2 words, n `often`; `tables` gives the columns SAMPLED of models, and may of others."""
        self._path = _often(prefixes)
        self._arrays, self._contents, self._often, self._tables = arrays, contents, often, tables
        self._places = np.full(len(often), -1)
        rows = np.flatnonzero(often)
        rows = rows[np.argsort(arrays.model_ids[rows], kind="stable")]
        found = mapped_vectors(self._path, arrays.sizes, arrays.model_ids[rows], contents[rows]) if rows.size else None
        self._values = np.empty((0, 0), np.float32) if found is None else found[0]
        if found is not None:
            self._places[rows] = found[1]

    def __call__(self, rows: Ints) -> Ints:
        """Fill some rows; returns those that were filled. Raises OSError when the file cannot be written."""
        kept, rest = rows[self._places[rows] >= 0], rows[self._places[rows] < 0]
        if kept.size:
            self._arrays.put(kept, self._values[self._places[kept]])
        if not rest.size:
            return kept
        ids = self._arrays.model_ids
        filled = self._arrays.fill(self._tables(ids[rest].tolist()))
        new = rest[self._often[rest]]
        if new.size and not in_fork():
            told = Vectors(ids[new], self._contents[new], self._arrays.whole(new))
            there = has_layout(self._path, self._arrays.sizes)
            (append_vectors if there else write_vectors)(self._path, self._arrays.sizes, told)
        return np.concatenate([kept, filled])
