"""A family from sketches, one by one: what `indexer.gathered` makes of the shards' columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.family import Family, TensorColumn
from indexer.samples import Samples
from store.dtypes import DTYPES
from store.records import TensorSketch

__all__ = ["make_family", "sample_values"]


def sample_values(sketch: TensorSketch) -> NDArray[np.float64]:
    """The coordinate samples of a sketch as float64, in the order of the seeded positions."""
    return np.frombuffer(sketch.samples, DTYPES[sketch.dtype]).astype(np.float64)


def make_family(
    architecture: str,
    models: Sequence[tuple[int, str, str, float, Sequence[TensorSketch]]],
    roles: Mapping[str, str],
) -> Family:
    """Gather sketches into columns.

    `models` holds (model id, name, content hash, created, sketches); `roles` names the backbone's tensors. A sample
    count that differs between models (never within one sketch version) is cut to the common prefix.
    """
    n = len(models)
    by_tensor: dict[str, dict[int, TensorSketch]] = {name: {} for name in roles}
    for row, (_, _, _, _, sketches) in enumerate(models):
        for sketch in sketches:
            if sketch.tensor in by_tensor:
                by_tensor[sketch.tensor][row] = sketch
    columns: list[TensorColumn] = []
    projections: dict[str, NDArray[np.float32]] = {}
    for name, rows in by_tensor.items():
        if not rows:
            continue
        # An older sketch of a large tensor has other coordinates: nothing of it compares with those of today.
        covered = min(sketch.covered for sketch in rows.values())
        rows = {row: sketch for row, sketch in rows.items() if sketch.covered == covered}
        scale = next(iter(rows.values())).elements / covered
        values = {row: sample_values(sketch) for row, sketch in rows.items()}
        m = min(len(v) for v in values.values())
        samples = np.zeros((n, m))
        for row, v in values.items():
            samples[row] = v[:m]
        columns.append(
            TensorColumn(
                name=name,
                shape=next(iter(rows.values())).shape,
                role=roles[name],
                samples=Samples.of(samples),
                present=np.array([row in rows for row in range(n)]),
                sum_squares=scale * _scalar(rows, n, "sum_squares"),
                mean=_scalar(rows, n, "mean"),
                m2=_scalar(rows, n, "m2"),
                m4=_scalar(rows, n, "m4"),
                minimum=_scalar(rows, n, "minimum"),
                maximum=_scalar(rows, n, "maximum"),
                zeros=np.rint(scale * _scalar(rows, n, "zeros")).astype(np.int64),
                hashes=np.array([rows[row].content_hash if row in rows else b"" for row in range(n)], object),
                dtypes=np.array([rows[row].dtype if row in rows else "" for row in range(n)], object),
                covered=covered,
                even=all(len(v) == m for v in values.values()),
            )
        )
        k = max(len(sketch.projection) for sketch in rows.values())
        if k:
            projections[name] = np.full((n, k), np.nan, np.float32)
            for row, sketch in rows.items():
                if len(sketch.projection) == k:
                    projections[name][row] = sketch.projection
    return Family(
        architecture,
        np.array([model[0] for model in models], np.int64),
        tuple(model[1] for model in models),
        tuple(model[2] for model in models),
        np.array([model[3] for model in models], np.float64),
        np.array([_counter(model[4]) for model in models], np.float64),
        tuple(columns),
        projections,
    )


def _counter(sketches: Sequence[TensorSketch]) -> float:
    """The median of a model's step counters: layers that were added or frozen later count fewer."""
    counts = [s.maximum for s in sketches if s.tensor.endswith("num_batches_tracked") and s.elements == 1]
    return float(np.median(counts)) if counts else float("nan")


def _scalar(rows: Mapping[int, TensorSketch], n: int, field: str) -> NDArray[np.float64]:
    result = np.zeros(n)
    for row, sketch in rows.items():
        result[row] = getattr(sketch, field)
    return result
