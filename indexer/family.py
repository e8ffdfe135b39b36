"""The models of one architecture as arrays: what the sketches say, tensor by tensor, model by model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.samples import Samples, side_by_side
from indexer.unread import Rows

__all__ = ["DIMENSIONS", "Family", "TensorColumn", "content_keys"]

_BY_ROW: Final = ("content_keys", "precision", "present", "norms", "kurtosis", "zeros", "hashes")
"""What `take` need not work out again: arrays of n rows."""
DIMENSIONS: Final = 1024
"""Samples of a prefix, over all measured tensors."""


@dataclass(frozen=True, slots=True)
class TensorColumn:
    """One tensor of the backbone over the n models of a family. Rows of absent tensors hold zeros."""

    name: str
    shape: tuple[int, ...]
    role: str
    samples: Samples
    """n x m."""
    present: NDArray[np.bool_]
    sum_squares: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    m4: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    zeros: NDArray[np.int64]
    hashes: NDArray[np.object_]
    """n content hashes, empty where absent."""
    dtypes: NDArray[np.object_]
    """n names, empty where absent."""
    covered: int
    """Values that the sketches are of; `sum_squares` and `zeros` are scaled up from them to all elements."""
    even: bool = True
    """Have all models that have it as many samples of it? Else the first of each are here."""

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def kurtosis(self) -> NDArray[np.float64]:
        """E[(x - mean)^4] / E[(x - mean)^2]^2, NaN where the variance is 0 (equation 3, without the minus 3)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(self.m2 > 0, self.m4 / self.m2**2, np.nan))


@dataclass(frozen=True)
class Family:
    """n models of one architecture. The order of models is that of `model_ids`."""

    architecture: str
    model_ids: NDArray[np.int64]
    names: tuple[str, ...]
    content_hashes: tuple[str, ...]
    created: NDArray[np.float64]
    """Seconds since 1970 as the source says, NaN where it does not."""
    counters: NDArray[np.float64]
    """Training steps that BatchNorm counted (num_batches_tracked), NaN where a model has no counter."""
    tensors: tuple[TensorColumn, ...]
    projections: Mapping[str, NDArray[np.float32] | Rows]
    """Tensor -> n x k*k; NaN rows where a model has none."""
    quantized: frozenset[int] = frozenset()
    """Ids of the models, here or elsewhere, whose files hold quantised weights."""
    kept_prefix: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    """An array of prefixes and n of its rows, where prefixes are known without samples."""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def measured(self) -> tuple[TensorColumn, ...]:
        """The tensors that distances are taken over: weights with two or more long axes, else all of the backbone.

        Biases, norms and running statistics move on scales of their own and would drown the weights.
        """
        weights = tuple(t for t in self.tensors if t.role == "weight")
        return weights or tuple(t for t in self.tensors if t.role in ("vector", "embedding")) or self.tensors

    @cached_property
    def samples(self) -> Samples:
        """n x M: the samples of the measured tensors, side by side."""
        if not self.measured:
            return Samples(np.zeros((len(self), 0), np.float32))
        return side_by_side([t.samples for t in self.measured])

    @cached_property
    def prefix_sizes(self) -> tuple[int, ...]:
        """Length T: how many samples of each measured tensor `prefix` holds."""
        total = max(1, int(self.starts[-1]))
        sizes = [t.samples.shape[1] for t in self.measured]
        return tuple(max(1, min(size, size * DIMENSIONS // total)) for size in sizes)

    @property
    def prefix(self) -> NDArray[np.float32 | np.float64]:
        """n x some DIMENSIONS: the first samples of each measured tensor, side by side, as they are held."""
        held, rows = self.prefixes
        return held[rows]

    @cached_property
    def prefixes(self) -> tuple[NDArray[np.float32 | np.float64], NDArray[np.int64]]:
        """(an array, n: rows of it): those are `prefix`."""
        if self.kept_prefix is not None:
            return self.kept_prefix
        firsts = zip(self.starts[:-1].tolist(), self.prefix_sizes, strict=True)
        at = np.concatenate([np.zeros(0, np.int64), *(np.arange(first, first + size) for first, size in firsts)])
        return self.samples.at_hand(slice(None))[np.ix_(self.samples.rows, at)], np.arange(len(self))

    @cached_property
    def content_keys(self) -> NDArray[np.uint8]:
        """n x 16: a digest of each content hash."""
        return content_keys(self.content_hashes)

    @cached_property
    def precision(self) -> NDArray[np.int64]:
        """n: the shortest float that holds a model's values, as an index into `indexer.samples.PRECISIONS`. Read from
        the values, not from the dtype: many a bfloat16 model was saved as float32."""
        return self.samples.precisions()

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Length T + 1: where each measured tensor's columns begin in `samples`, and their end."""
        return np.cumsum([0] + [t.samples.shape[1] for t in self.measured], dtype=np.int64)

    @cached_property
    def elements(self) -> NDArray[np.float64]:
        """Length T: elements of each measured tensor."""
        return np.array([t.elements for t in self.measured], np.float64)

    @cached_property
    def covered(self) -> NDArray[np.float64]:
        """Length T: values of each measured tensor that the sketches are of."""
        return np.array([t.covered for t in self.measured], np.float64)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """n x T: which measured tensors each model has."""
        return np.stack([t.present for t in self.measured], axis=1)

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """n x T: squared norm of each measured tensor, exact but where a tensor is probed."""
        return np.stack([t.sum_squares for t in self.measured], axis=1)

    @cached_property
    def kurtosis(self) -> NDArray[np.float64]:
        """n x T: kurtosis of each measured tensor, NaN where the variance is 0."""
        return np.stack([t.kurtosis for t in self.measured], axis=1)

    @cached_property
    def zeros(self) -> NDArray[np.float64]:
        """n: share of exact zeros in the measured tensors."""
        return np.asarray(sum(t.zeros for t in self.measured) / self.elements.sum())

    @cached_property
    def hashes(self) -> NDArray[np.object_]:
        """n x T: content hashes."""
        return np.stack([t.hashes for t in self.measured], axis=1)

    def note_precision(self, precision: NDArray[np.int64]) -> None:
        """Take these n for `precision`, as they were worked out before."""
        self.__dict__["precision"] = precision

    def note_samples(self, samples: Samples) -> None:
        """Take these for `samples`, of which those of the measured tensors are columns already."""
        self.__dict__["samples"] = samples

    def alone(self) -> Family:
        """The family by itself, without tensors that none of its models has: what it is does not depend on models
        elsewhere, nor is more held than what its own have."""
        kept = tuple(t for t in self.tensors if t.present.any())
        same = self if len(kept) == len(self.tensors) else replace(self, tensors=kept)
        if same is self and all(samples.alone() is samples for samples in (self.samples, *(t.samples for t in kept))):
            return self
        return same._with(same.samples.alone(), Samples.alone)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Family:
        """The family of some of the models, in the given order."""
        at = np.asarray(rows, np.int64)
        if len(at) == len(self) and np.array_equal(at, np.arange(len(self))):
            return self
        samples = self.samples.take(at)
        taken = Family(
            self.architecture,
            self.model_ids[at],
            tuple(self.names[i] for i in at),
            tuple(self.content_hashes[i] for i in at),
            self.created[at],
            self.counters[at],
            tuple(_taken(t, at, own) for t, own in zip(self.tensors, self._views(samples), strict=True)),
            {name: _some(values, at) for name, values in self.projections.items()},
            self.quantized,
            None if self.kept_prefix is None else (self.kept_prefix[0], self.kept_prefix[1][at]),
        )
        known = self.__dict__
        taken.__dict__.update({name: known[name][at] for name in _BY_ROW if name in known})
        taken.__dict__["samples"] = samples
        return taken

    def joined(self) -> Family:
        """The same, with the samples of measured tensors held once: columns of `samples`."""
        return self._with(self.samples, lambda samples: samples)

    def _with(self, samples: Samples, others: Callable[[Samples], Samples]) -> Family:
        """The same with these samples, and with what `others` makes of those of each tensor that is not measured."""
        views = zip(self.tensors, self._views(samples), strict=True)
        made = (replace(t, samples=others(t.samples) if own is None else own) for t, own in views)
        same = replace(self, tensors=tuple(made))
        same.__dict__["samples"] = samples
        return same

    def _views(self, samples: Samples) -> list[Samples | None]:
        """Of each tensor its columns in samples like `samples`, None for those that are not measured."""
        spans = zip(self.measured, self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        views = {t.name: samples.columns(first, last) for t, first, last in spans}
        return [views.get(t.name) for t in self.tensors]

    def __getstate__(self) -> dict[str, Any]:
        """For another process: each sample once, and nothing that can be worked out again."""
        bare = self._with(Samples(np.zeros((len(self), 0), np.float32)), lambda samples: samples)
        told = {field.name: getattr(bare, field.name) for field in fields(bare)}
        if self.kept_prefix is not None:
            # Of an array that others share, and a file may hold, what is its own.
            told["kept_prefix"] = self.prefix, np.arange(len(self))
        return {**told, "samples": self.samples, "starts": self.starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        whole = self.joined().__dict__
        self.__dict__.clear()
        self.__dict__.update(whole)


def content_keys(contents: Sequence[str]) -> NDArray[np.uint8]:
    """n x 16: a digest of each of n content hashes."""
    told = b"".join(blake3(content.encode()).digest(16) for content in contents)
    return np.frombuffer(told, np.uint8).reshape(-1, 16)


def _taken(t: TensorColumn, at: NDArray[np.int64], samples: Samples | None) -> TensorColumn:
    """Some rows of a column, of which `samples` may be there already."""
    return TensorColumn(
        t.name,
        t.shape,
        t.role,
        t.samples.take(at) if samples is None else samples,
        t.present[at],
        t.sum_squares[at],
        t.mean[at],
        t.m2[at],
        t.m4[at],
        t.minimum[at],
        t.maximum[at],
        t.zeros[at],
        t.hashes[at],
        t.dtypes[at],
        t.covered,
        t.even,
    )


def _some(values: NDArray[np.float32] | Rows, at: NDArray[np.int64]) -> NDArray[np.float32] | Rows:
    return values.take(at) if isinstance(values, Rows) else values[at]
