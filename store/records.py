"""The rows that cross module boundaries, with the names of their SQL columns (a test compares the two)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

__all__ = ["Claim", "Edge", "Evidence", "Inferred", "Merge", "Model", "Skipped", "TensorSketch"]


@dataclass(frozen=True, slots=True)
class TensorSketch:
    """The sketch of one tensor of one model: a row of the Parquet shards and of the view `sketches`.

    A tensor of more than `store.positions.LARGE` elements is described by one run of `covered` values, which the
    architecture fixes, whether the rest was read or not: whoever reads everything and whoever reads a few bytes have
    the same sketch. Moments (float64), range, zeros, hash, outliers and projection are exact over the covered values;
    `samples` are the values at the seeded positions of the tensor's shape, in the tensor's own dtype and in the order
    of those positions; `projection` is k*k float32 or empty.
    """

    tensor: str
    """Canonical name."""
    source_name: str
    """Name in the file."""
    dtype: str
    """As safetensors writes it: F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8, ..."""
    shape: tuple[int, ...]
    elements: int
    covered: int
    """Values that the sketch is of: `elements`, or fewer for a large tensor."""
    mean: float
    sum_squares: float
    m2: float
    """Second central moment: E[(x - mean)^2]."""
    m3: float
    m4: float
    minimum: float
    maximum: float
    zeros: int
    content_hash: bytes
    """First 16 bytes of BLAKE3 of the stored bytes of the covered values."""
    outlier_values: NDArray[np.float64]
    """The k values of largest magnitude, largest first, ties by lower position."""
    outlier_positions: NDArray[np.int64]
    """Flat C-order positions of `outlier_values`."""
    samples: bytes
    """Little-endian values in `dtype`."""
    projection: NDArray[np.float32]
    """k*k values, of whole rows."""
    whole_hash: bytes | None = None
    """As `content_hash`, of all values; None where they were not all read."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a model card or configuration declares: (field, value), and in which file it stands."""

    field: str
    """base_model, base_model_relation, license, library_name, pipeline_tag, datasets, tags, ..."""
    value: str
    stated_in: str
    """README.md, config.json, adapter_config.json, or hub."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be ingested, and why. `scope` is model, file or tensor."""

    name: str
    revision: str | None
    path: str | None
    scope: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Model:
    """One ingested revision of a model, before it has an id in a graph."""

    name: str
    revision: str
    source: str
    architecture: str
    dtype: str
    tensors: int
    parameters: int
    bytes_total: int
    bytes_read: int
    content_hash: str
    created_at: datetime | None
    modified_at: datetime | None
    sketches: tuple[TensorSketch, ...] = field(repr=False)
    claims: tuple[Claim, ...] = ()
    format: str = "safetensors"
    """safetensors, torch, flax, keras, gguf or onnx."""
    quantization: str | None = None
    """How most values are stored, where not as floats: Q4_K, gptq4, awq4, nf4, int8, ..."""
    kind: str = "model"
    """model, or adapter: differences from a base."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One cue of an edge."""

    cue: str
    value: float
    log_odds: float
    """Natural logarithm; positive speaks for the edge, 0 where a cue informs without voting."""
    says: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A measured parent."""

    child_id: int
    parent_id: int
    relation: str
    distance: float
    confidence: float
    runner_up_id: int | None
    runner_up_confidence: float | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Inferred:
    """An ancestor that distances tell of and the graph does not hold: no model, no weights."""

    inferred_id: int
    """Negative; follows from its children, as its name does."""
    name: str
    architecture: str
    children: int


@dataclass(frozen=True, slots=True)
class Merge:
    """One of the parents that a model was merged from."""

    child_id: int
    parent_id: int
    coefficient: float
    method: str
