"""The sketch format: its version, its seeds and its sizes. Written into every shard, checked on every read.

Whoever changes how a sketch is computed raises `SKETCH_VERSION`. Sketches of two versions are compared only where both
mean the same: tensors of which they cover the same number of values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

__all__ = ["READABLE_VERSIONS", "SCHEMA_VERSION", "SKETCH_VERSION", "SketchFormat"]

SCHEMA_VERSION: Final = 4
SKETCH_VERSION: Final = 2
READABLE_VERSIONS: Final = (1, 2)
"""Version 1 sampled large tensors all over; of tensors up to `store.positions.LARGE` elements both say the same."""


@dataclass(frozen=True, slots=True)
class SketchFormat:
    """Sizes and seed of a sketch. The defaults keep a model within 256 KB.

    Most of the budget goes to coordinate samples: a regression on increments has noise 1/sqrt(samples).
    """

    version: int = SKETCH_VERSION
    seed: int = 20240528
    samples: int = 32_768
    """Coordinate samples a model, spread over its tensors in proportion to sqrt(elements)."""
    least_samples: int = 48
    """Coordinate samples a tensor at least (all of a smaller tensor)."""
    outliers: int = 2_048
    """Outlier values a model; at most 64 and at least 1 a tensor."""
    projection: int = 64
    """k of the k x k projection."""
    projections: int = 3
    """Tensors a model that get one."""
    probe: int = 12 << 20
    """Values a model that its large tensors are probed by, those with a projection not counted."""

    def as_metadata(self) -> dict[str, str]:
        """Key-value metadata of a Parquet shard."""
        return {f"modelkin.{key}": str(value) for key, value in asdict(self).items()}
