"""A large family made of smaller ones, one after the other: of each, what was read and worked out is let go before the
next.

Its samples at once take four times what they are: as they were read, tensor by tensor, side by side. Of 100,000 models
with 4,000 samples each that is 6.4 GB, of which 1.6 are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from indexer.bare import Who
from indexer.family import Family, TensorColumn
from indexer.samples import Samples

__all__ = ["stack"]

Ints = NDArray[np.int64]

_OF_ROWS = ("present", "sum_squares", "mean", "m2", "m4", "minimum", "maximum", "zeros", "hashes", "dtypes")
"""Of a column, arrays of n rows."""
_ABSENT: Final[dict[str, Any]] = {"hashes": b"", "dtypes": ""}
"""What of these is not 0 where a tensor is absent, as `indexer.gathered` has it."""


def stack(
    architecture: str, models: Who, parts: Iterable[tuple[Ints, Family]], quantized: frozenset[int] = frozenset()
) -> Family | None:
    """What `indexer.gathered.gather_family` makes of these models, of parts that it made: (rows, in rising order; the
    family of those), which are all.

    None where a later part has a tensor or projections that the first has not, or has them otherwise: what the whole
    leaves out for it is not known before the last.
    """
    whole: _Whole | None = None
    for rows, part in parts:
        if whole is None:
            whole = _Whole.like(part, len(models))
        if not whole.fits(part):
            return None
        whole.fill(rows, part)
    return None if whole is None else whole.family(architecture, models, quantized)


@dataclass(slots=True)
class _Whole:
    """The arrays of n models, filled part by part; of tensors that a part has not, they say what absent ones do."""

    tensors: dict[str, TensorColumn]
    samples: Samples
    counters: NDArray[np.float64]
    projections: dict[str, NDArray[np.float32]]

    @classmethod
    def like(cls, part: Family, n: int) -> _Whole:
        """Arrays for n models such as those of a part."""
        held = Samples(np.zeros((n, part.samples.shape[1]), np.float32))
        spans = zip((t.name for t in part.measured), pairwise(part.starts.tolist()), strict=True)
        measured = {name: held.columns(*span) for name, span in spans}
        tensors = {}
        for t in part.tensors:
            own = measured.get(t.name)
            if own is None:
                own = Samples(np.zeros((n, t.samples.shape[1]), np.float32))
            absent: dict[str, Any] = {
                name: np.full(n, _ABSENT.get(name, 0), getattr(t, name).dtype) for name in _OF_ROWS
            }
            tensors[t.name] = replace(t, samples=own, even=True, **absent)
        told = {name: np.full((n, values.shape[1]), np.nan, np.float32) for name, values in part.projections.items()}
        return cls(tensors, held, np.empty(n), told)

    def fits(self, part: Family) -> bool:
        """Has this part what it has as the first has it?"""
        return all(
            t.name in self.tensors and _kind(t) == _kind(self.tensors[t.name]) and t.samples.held.dtype == np.float32
            for t in part.tensors
        ) and all(
            name in self.projections and values.shape[1] == self.projections[name].shape[1]
            for name, values in part.projections.items()
        )

    def fill(self, rows: Ints, part: Family) -> None:
        """Put a part in its rows."""
        self.counters[rows] = part.counters
        for t in part.tensors:
            own = self.tensors[t.name]
            for name in _OF_ROWS:
                getattr(own, name)[rows] = getattr(t, name)
            own.samples.held[rows] = t.samples.at_hand(slice(None))
            if own.even and not t.even:
                self.tensors[t.name] = replace(own, even=False)
        for name, values in part.projections.items():
            self.projections[name][rows] = values

    def family(self, architecture: str, models: Who, quantized: frozenset[int]) -> Family:
        """All of it."""
        ids, names, contents, created = zip(*models, strict=True)
        family = Family(
            architecture,
            np.array(ids, np.int64),
            names,
            contents,
            np.array(created, np.float64),
            self.counters,
            tuple(self.tensors.values()),
            self.projections,
            quantized,
        )
        family.note_samples(self.samples)
        return family


def _kind(t: TensorColumn) -> tuple[str, tuple[int, ...], str, int, int]:
    return t.name, t.shape, t.role, t.covered, t.samples.shape[1]
