"""The sketch format: its version, its seeds and its sizes. Written into every shard, checked on every read.

Whoever changes how a sketch is computed raises `SKETCH_VERSION`: sketches of two versions are never compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

__all__ = ["SCHEMA_VERSION", "SKETCH_VERSION", "SketchFormat"]

SCHEMA_VERSION: Final = 3
SKETCH_VERSION: Final = 1


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

    def as_metadata(self) -> dict[str, str]:
        """Key-value metadata of a Parquet shard."""
        return {f"modelkin.{key}": str(value) for key, value in asdict(self).items()}
