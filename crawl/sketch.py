"""The sketch of one tensor, in one pass over cache-sized blocks: bytes in, `TensorSketch` out.

A block of 64 Ki values stays in the second-level cache while it is hashed, widened, summed, searched for outliers and
sampled: ten times faster than whole-tensor passes. A 16-bit tensor never exists as float32 beyond one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from crawl import kernels
from crawl.plan import TensorPlan, signs
from store.dtypes import DTYPES
from store.errors import SkipError
from store.format import SketchFormat
from store.positions import sample_positions
from store.records import TensorSketch

__all__ = ["BLOCK", "sketch_array", "sketch_tensor"]

BLOCK: Final = 1 << 16
"""Values a block: 128 to 512 KB, well within a core's second-level cache."""

LARGEST: Final = 1e60
"""Largest magnitude that is measured: fourth powers of larger ones, which only float64 holds, overflow."""

ReadInto = Callable[[int, memoryview], None]
"""`read(offset, buffer)`: fill the buffer with the tensor's bytes from `offset` (0 = the tensor's first byte)."""


class _Widener:
    """Turns a block of stored values into float32 (16- and 8-bit floats) or leaves it as it is."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.block = np.empty(BLOCK, np.float32)
        self.table = (
            np.arange(256, dtype=np.uint8).view(DTYPES[dtype]).astype(np.float32) if dtype.startswith("F8") else None
        )

    def __call__(self, stored: NDArray[Any]) -> NDArray[Any]:
        out = self.block[: stored.size]
        if self.dtype == "BF16":
            kernels.widen_bfloat16(stored.view(np.uint16), out.view(np.uint32))
            return out
        if self.dtype == "F16":
            kernels.widen_float16(stored.view(np.uint16), out)
            return out
        if self.table is not None:
            np.take(self.table, stored.view(np.uint8), out=out)
            return out
        if stored.dtype.kind in "iub":
            return stored.astype(np.float64)
        return stored


def sketch_tensor(
    read: ReadInto,
    *,
    tensor: str,
    source_name: str,
    dtype: str,
    shape: tuple[int, ...],
    plan: TensorPlan,
    form: SketchFormat,
) -> TensorSketch:
    """Sketch one tensor of `shape` stored in C order as little-endian `dtype`.

    Raises SkipError("empty_tensor") when it has no elements, SkipError("not_finite") when it holds NaN, an infinity or
    a value beyond LARGEST, SkipError("unknown_dtype") for an element type that is not in `DTYPES`; what `read` raises
    passes through.
    """
    if dtype not in DTYPES:
        raise SkipError("unknown_dtype", f"tensor {source_name}: expected one of {', '.join(DTYPES)}, found {dtype}")
    elements = math.prod(shape)
    if elements == 0:
        raise SkipError("empty_tensor", f"tensor {source_name}: shape {list(shape)} holds no values")
    numpy_dtype = DTYPES[dtype]
    widen = _Widener(dtype)
    raw = bytearray(min(elements, BLOCK) * numpy_dtype.itemsize)
    digest = blake3()

    positions = sample_positions(elements, plan.samples, form.seed)
    order = np.argsort(positions)
    sorted_positions = positions[order]
    samples = np.empty(positions.size, numpy_dtype)

    sums = np.zeros(6)
    shift = 0.0
    low, high = math.inf, -math.inf
    outlier_values = np.zeros(plan.outliers)
    outlier_positions = np.zeros(plan.outliers, np.int64)
    filled = first = 0
    k = plan.projection if len(shape) == 2 else 0
    bands = np.zeros((k, shape[1])) if k else None

    for start in range(0, elements, BLOCK):
        size = min(BLOCK, elements - start)
        view = memoryview(raw)[: size * numpy_dtype.itemsize]
        read(start * numpy_dtype.itemsize, view)
        digest.update(view)
        stored = np.frombuffer(view, numpy_dtype)
        block = widen(stored)
        block_low, block_high = float(block.min()), float(block.max())
        if not (block_low >= -LARGEST and block_high <= LARGEST):
            raise SkipError("not_finite", _not_finite(source_name, block, start, shape))
        low, high = min(low, block_low), max(high, block_high)
        if start == 0:
            # Moments are taken about a value inside the data: a LayerNorm weight of 1 +- 1e-4 keeps its kurtosis.
            shift = float(block.mean(dtype=np.float64))
        kernels.power_sums(block, shift, sums)
        if plan.outliers and (
            filled < plan.outliers or max(-block_low, block_high) > abs(outlier_values[plan.outliers - 1])
        ):
            filled = kernels.insert_outliers(block, start, outlier_values, outlier_positions, filled)
        last = first + int(np.searchsorted(sorted_positions[first:], start + size))
        if last > first:
            samples[order[first:last]] = stored[sorted_positions[first:last] - start]
        first = last
        if bands is not None:
            kernels.signed_rows(block, start, shape[1], shape[0], signs(shape[0], 0, form.seed), bands)

    mean, m2, m3, m4 = _central_moments(sums, shift, elements, low == high)
    return TensorSketch(
        tensor=tensor,
        source_name=source_name,
        dtype=dtype,
        shape=shape,
        elements=elements,
        mean=mean,
        sum_squares=float(sums[0]),
        m2=m2,
        m3=m3,
        m4=m4,
        minimum=low,
        maximum=high,
        zeros=int(sums[5]),
        content_hash=digest.digest(length=16),
        outlier_values=outlier_values[:filled],
        outlier_positions=outlier_positions[:filled],
        samples=samples.tobytes(),
        projection=_fold_columns(bands, form.seed) if bands is not None else np.empty(0, np.float32),
    )


def sketch_array(array: NDArray[Any], dtype: str, *, tensor: str, plan: TensorPlan, form: SketchFormat) -> TensorSketch:
    """Sketch an array in memory whose element type is the NumPy form of `dtype`."""
    data = memoryview(np.ascontiguousarray(array).tobytes())

    def read(offset: int, buffer: memoryview) -> None:
        buffer[:] = data[offset : offset + len(buffer)]

    return sketch_tensor(read, tensor=tensor, source_name=tensor, dtype=dtype, shape=array.shape, plan=plan, form=form)


def _central_moments(
    sums: NDArray[np.float64], shift: float, n: int, constant: bool
) -> tuple[float, float, float, float]:
    """Mean and central moments 2 to 4 from power sums about `shift`; a constant tensor has moments of exactly 0."""
    if constant:
        return shift, 0.0, 0.0, 0.0
    a, b, c, d = (float(s) / n for s in sums[1:5])
    return shift + a, b - a * a, c - 3 * a * b + 2 * a**3, d - 4 * a * c + 6 * a * a * b - 3 * a**4


def _fold_columns(bands: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """k x n band sums to k x k: columns are signed and summed in contiguous bands, like the rows."""
    k, n = bands.shape
    folded = np.zeros((k, k))
    np.add.at(folded.T, np.arange(n) * k // n, (bands * signs(n, 1, seed)).T)
    return folded.astype(np.float32).reshape(-1)


def _not_finite(name: str, block: NDArray[Any], start: int, shape: tuple[int, ...]) -> str:
    bad = ~np.isfinite(block) if block.dtype != np.float64 else ~(np.abs(block) <= LARGEST)
    at = int(np.flatnonzero(bad)[0])
    return f"tensor {name} of shape {list(shape)}: value at flat position {start + at} is {float(block[at])}"
