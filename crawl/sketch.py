"""The sketch of one tensor, in one pass over cache-sized blocks: bytes in, `TensorSketch` out.

A block of 64 Ki values stays in the second-level cache while it is hashed, widened, summed, searched for outliers and
sampled: ten times faster than whole-tensor passes. A 16-bit tensor never exists as float32 beyond one block.

Of a large tensor the plan names a run of values that the sketch describes. Whoever reads all of it hashes and checks
the rest as well, and has the same sketch as whoever reads the run alone.
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

BLOCK: Final = 1 << 17
"""Values a block. A 16-bit block and its float32 form are 768 KB: within a core's second-level cache, and large enough
that calls cost little."""

LARGEST: Final = 1e60
"""Largest magnitude that is measured: fourth powers of larger ones, which only float64 holds, overflow."""

ReadInto = Callable[[int, memoryview], None]
"""`read(offset, buffer)`: fill the buffer with the tensor's bytes from `offset` (0 = the tensor's first byte)."""


class _Block:
    """The buffers of one tensor's pass, and their views, made once: stored bytes, stored values, widened values."""

    def __init__(self, dtype: str, values: int) -> None:
        self.dtype = dtype
        self.values = values
        itemsize = DTYPES[dtype].itemsize
        self._memory = memoryview(bytearray(values * itemsize))
        self._stored = np.frombuffer(self._memory, DTYPES[dtype])
        self._itemsize = itemsize
        self._wide = np.empty(values, np.float32)
        self._ends = np.empty(2, np.int16)
        self._wide_ends = np.empty(2, np.float32)
        self._table = (
            np.arange(256, dtype=np.uint8).view(DTYPES[dtype]).astype(np.float32) if dtype.startswith("F8") else None
        )

    def bytes(self, size: int) -> memoryview:
        """Where the bytes of `size` values go."""
        return self._memory[: size * self._itemsize]

    def stored(self, size: int) -> NDArray[Any]:
        """The values as they are stored."""
        return self._stored[:size]

    def widened(self, size: int) -> NDArray[Any]:
        """The values in float32 (16- and 8-bit floats), float64 (integers), or as they are."""
        stored = self._stored[:size]
        if self.dtype in ("BF16", "F16"):
            return self._widen(stored.view(np.uint16), self._wide[:size])
        if self._table is not None:
            return np.take(self._table, stored.view(np.uint8), out=self._wide[:size])
        return stored.astype(np.float64) if stored.dtype.kind in "iub" else stored

    def _widen(self, bits: NDArray[np.uint16], out: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.dtype == "BF16":
            kernels.widen_bfloat16(bits, out.view(np.uint32))
        else:
            kernels.widen_float16(bits, out)
        return out

    def range(self, values: NDArray[Any]) -> tuple[float, float]:
        """Smallest and largest of the widened `values`; NaN in the place of either when there is one."""
        if self.dtype not in ("BF16", "F16"):
            return float(values.min()), float(values.max())
        kernels.range_16bit(self._stored[: values.size].view(np.int16), self._ends)
        low, high = self._widen(self._ends.view(np.uint16), self._wide_ends).tolist()
        return low, high


def sketch_tensor(
    read: ReadInto,
    *,
    tensor: str,
    source_name: str,
    dtype: str,
    shape: tuple[int, ...],
    plan: TensorPlan,
    form: SketchFormat,
    whole: bool = True,
) -> TensorSketch:
    """Sketch one tensor of `shape` stored in C order as little-endian `dtype`.

    Where the plan names a run of values, not `whole` reads that run alone; the sketch is the same but for `whole_hash`.

    Raises SkipError("empty_tensor") when it has no elements, SkipError("not_finite") when what is read holds NaN, an
    infinity or a value beyond LARGEST, SkipError("unknown_dtype") for an element type that is not in `DTYPES`; what
    `read` raises passes through.
    """
    if dtype not in DTYPES:
        raise SkipError("unknown_dtype", f"tensor {source_name}: expected one of {', '.join(DTYPES)}, found {dtype}")
    elements = math.prod(shape)
    if elements == 0:
        raise SkipError("empty_tensor", f"tensor {source_name}: shape {list(shape)} holds no values")
    pass_ = _Pass(read, source_name, dtype, shape, plan, form)
    if plan.run is None:
        found = pass_.describe(0, elements)
        whole_hash: bytes | None = found["content_hash"]
    else:
        start, stop = plan.run
        whole_hash = pass_.keep(start, stop) if whole else None
        found = pass_.describe(start, stop)
    return TensorSketch(
        tensor=tensor,
        source_name=source_name,
        dtype=dtype,
        shape=shape,
        elements=elements,
        whole_hash=whole_hash,
        **found,
    )


class _Pass:
    """One tensor being read."""

    def __init__(
        self,
        read: ReadInto,
        source_name: str,
        dtype: str,
        shape: tuple[int, ...],
        plan: TensorPlan,
        form: SketchFormat,
    ) -> None:
        self._read, self._name, self._shape, self._plan, self._form = read, source_name, shape, plan, form
        self._dtype, self._itemsize = DTYPES[dtype], DTYPES[dtype].itemsize
        self._elements = math.prod(shape)
        self._block = _Block(dtype, min(self._elements, BLOCK))

    def _load(self, start: int, size: int) -> tuple[NDArray[Any], float, float]:
        """The values from flat position `start` on, widened, and their range; refuses what is not finite."""
        block = self._block
        self._read(start * self._itemsize, block.bytes(size))
        values = block.widened(size)
        low, high = block.range(values)
        if not (low >= -LARGEST and high <= LARGEST):
            raise SkipError("not_finite", _not_finite(self._name, values, start, self._shape))
        return values, low, high

    def keep(self, start: int, stop: int) -> bytes:
        """Read everything; the hash of it. What lies from `start` up to `stop` is kept, so that it is read once."""
        digest = blake3()
        first, last = start * self._itemsize, stop * self._itemsize
        kept = bytearray(last - first)
        for at in range(0, self._elements, self._block.values):
            size = min(self._block.values, self._elements - at)
            self._load(at, size)
            stored = self._block.bytes(size)
            digest.update(stored)
            begin = at * self._itemsize
            inside = stored[max(0, first - begin) : max(0, last - begin)]
            if inside:
                to = max(0, begin - first)
                kept[to : to + len(inside)] = inside

        def again(offset: int, buffer: memoryview) -> None:
            buffer[:] = kept[offset - first : offset - first + len(buffer)]

        self._read = again
        return digest.digest(length=16)

    def describe(self, start: int, stop: int) -> dict[str, Any]:
        """Everything that a sketch says of the values from flat position `start` up to `stop`."""
        plan, form, block = self._plan, self._form, self._block
        covered = stop - start
        positions = sample_positions(self._elements, plan.samples, form.seed) - start
        order = np.argsort(positions)
        sorted_positions = positions[order]
        cuts = np.searchsorted(sorted_positions, np.arange(0, covered + BLOCK, BLOCK)).tolist()
        samples = np.empty(positions.size, self._dtype)
        digest = blake3()
        sums = np.zeros(4)
        zeros = 0
        shift = 0.0
        low, high = math.inf, -math.inf
        outlier_values = np.zeros(plan.outliers)
        outlier_positions = np.zeros(plan.outliers, np.int64)
        filled = 0
        k = plan.projection if len(self._shape) == 2 else 0
        columns = self._shape[1] if k else 1
        rows = covered // columns
        bands = np.zeros((k, columns)) if k else None
        row_signs = signs(rows, 0, form.seed) if k else None

        for at, first in enumerate(range(0, covered, BLOCK)):
            size = min(BLOCK, covered - first)
            values, block_low, block_high = self._load(start + first, size)
            digest.update(block.bytes(size))
            low, high = min(low, block_low), max(high, block_high)
            if first == 0:
                # Moments are taken about a value inside the data: a LayerNorm weight of 1 +- 1e-4 keeps its kurtosis.
                shift = float(values.mean(dtype=np.float64))
            kernels.power_sums(values, shift, sums)
            zeros += kernels.count_zeros(values)
            if plan.outliers and (
                filled < plan.outliers or max(-block_low, block_high) > abs(outlier_values[plan.outliers - 1])
            ):
                filled = kernels.insert_outliers(values, start + first, outlier_values, outlier_positions, filled)
            here, there = cuts[at], cuts[at + 1]
            if there > here:
                samples[order[here:there]] = block.stored(size)[sorted_positions[here:there] - first]
            if bands is not None:
                kernels.signed_rows(values, first, columns, rows, row_signs, bands)

        mean, sum_squares, m2, m3, m4 = _moments(sums, shift, covered, low == high)
        return {
            "covered": covered,
            "mean": mean,
            "sum_squares": sum_squares,
            "m2": m2,
            "m3": m3,
            "m4": m4,
            "minimum": low,
            "maximum": high,
            "zeros": zeros,
            "content_hash": digest.digest(length=16),
            "outlier_values": outlier_values[:filled],
            "outlier_positions": outlier_positions[:filled],
            "samples": samples.tobytes(),
            "projection": _fold_columns(bands, form.seed) if bands is not None else np.empty(0, np.float32),
        }


def sketch_array(array: NDArray[Any], dtype: str, *, tensor: str, plan: TensorPlan, form: SketchFormat) -> TensorSketch:
    """Sketch an array in memory whose element type is the NumPy form of `dtype`."""
    data = memoryview(np.ascontiguousarray(array).tobytes())

    def read(offset: int, buffer: memoryview) -> None:
        buffer[:] = data[offset : offset + len(buffer)]

    return sketch_tensor(read, tensor=tensor, source_name=tensor, dtype=dtype, shape=array.shape, plan=plan, form=form)


def _moments(
    sums: NDArray[np.float64], shift: float, n: int, constant: bool
) -> tuple[float, float, float, float, float]:
    """Mean, sum of squares and central moments 2 to 4 from power sums about `shift`, which is close to the mean.

    A constant tensor has central moments of exactly 0. The sum of squares loses nothing: all its terms but the small
    one in sums[0] are positive.
    """
    if constant:
        return shift, n * shift * shift, 0.0, 0.0, 0.0
    a, b, c, d = (float(s) / n for s in sums)
    squares = float(sums[1]) + 2 * shift * float(sums[0]) + n * shift * shift
    return shift + a, squares, b - a * a, c - 3 * a * b + 2 * a**3, d - 4 * a * c + 6 * a * a * b - 3 * a**4


def _fold_columns(bands: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """k x n band sums to k x k: columns are signed and summed in contiguous bands, like the rows."""
    k, n = bands.shape
    signed = bands * signs(n, 1, seed)
    band = np.arange(n) * k // n
    if n >= k:
        return np.add.reduceat(signed, np.searchsorted(band, np.arange(k)), axis=1).astype(np.float32).reshape(-1)
    folded = np.zeros((k, k))
    folded[:, band] = signed
    return folded.astype(np.float32).reshape(-1)


def _not_finite(name: str, block: NDArray[Any], start: int, shape: tuple[int, ...]) -> str:
    bad = ~np.isfinite(block) if block.dtype != np.float64 else ~(np.abs(block) <= LARGEST)
    at = int(np.flatnonzero(bad)[0])
    return f"tensor {name} of shape {list(shape)}: value at flat position {start + at} is {float(block[at])}"
