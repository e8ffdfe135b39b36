"""Numba kernels of the one pass over a tensor. Each takes one cache-sized block; all state is in small arrays.

`reassoc` lets LLVM sum in vector lanes: on one machine the result is the same bit for bit for the same block
boundaries, and those depend on the tensor alone. No kernel assumes that values are finite.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "count_zeros",
    "insert_outliers",
    "power_sums",
    "range_16bit",
    "signed_rows",
    "widen_bfloat16",
    "widen_float16",
]

_FAST: Final = {"reassoc", "contract", "nsz"}
_RUN: Final = 1024


@njit(cache=True, nogil=True)
def widen_bfloat16(bits: NDArray[np.uint16], out: NDArray[np.uint32]) -> None:
    """bfloat16 bits to float32 bits: a shift, exact for every value."""
    for i in range(bits.size):
        out[i] = np.uint32(bits[i]) << np.uint32(16)


@njit(cache=True, nogil=True)
def widen_float16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """float16 bits to float32, exact, subnormals, infinities and NaN included, without a branch in the loop.

    The 15 low bits moved to float32's place are the value times 2^-112, so a multiplication by 2^112 restores it;
    exponent 31 (infinity, NaN) lands at 2^16 and above and is lifted to infinity's exponent.
    """
    scale = np.float32(2.0**112)
    for i in range(bits.size):
        h = np.uint32(bits[i])
        magnitude = np.uint32((h & np.uint32(0x7FFF)) << np.uint32(13))
        special = np.uint32(0x7F800000) if magnitude >= np.uint32(0x0F800000) else np.uint32(0)
        value = np.uint32(magnitude | special).view(np.float32)
        value = value if special else value * scale
        out[i] = -value if h & np.uint32(0x8000) else value


@njit(cache=True, nogil=True)
def range_16bit(bits: NDArray[np.int16], found: NDArray[np.int16]) -> None:
    """Bits of the smallest and the largest value of 16-bit floats, of either kind, into `found`.

    Sign and magnitude become two's complement by flipping the magnitude of negatives: then integers compare as the
    floats do, thirty-two at a time, and NaN lies beyond the infinities, where the caller sees it.
    """
    flip = np.int16(0x7FFF)
    low = np.int16(0x7FFF)
    high = np.int16(-0x8000)
    for i in range(bits.size):
        b = np.int16(bits[i])
        key = np.int16(b ^ np.int16((b >> np.int16(15)) & flip))
        low = min(low, key)
        high = max(high, key)
    found[0] = low ^ ((low >> np.int16(15)) & flip)
    found[1] = high ^ ((high >> np.int16(15)) & flip)


@njit(cache=True, nogil=True, fastmath=_FAST)
def count_zeros(block: NDArray[Any]) -> int:
    """How many values are exactly zero, of either sign."""
    zeros = 0
    for i in range(block.size):
        zeros += int(block[i] == 0)
    return zeros


@njit(cache=True, nogil=True, fastmath=_FAST)
def power_sums(block: NDArray[Any], shift: float, sums: NDArray[np.float64]) -> None:
    """Add the block's first four power sums about `shift` to `sums`, float64 of length 4."""
    s1 = 0.0
    s2 = 0.0
    s3 = 0.0
    s4 = 0.0
    for i in range(block.size):
        d = np.float64(block[i]) - shift
        d2 = d * d
        s1 += d
        s2 += d2
        s3 += d2 * d
        s4 += d2 * d2
    sums[0] += s1
    sums[1] += s2
    sums[2] += s3
    sums[3] += s4


@njit(cache=True, nogil=True)
def insert_outliers(
    block: NDArray[Any],
    start: int,
    values: NDArray[np.float64],
    positions: NDArray[np.int64],
    filled: int,
) -> int:
    """Keep the k largest magnitudes seen so far, in `values[:filled]`, largest first, ties by lower position.

    `start` is the flat position of the block's first value. Returns the new `filled`. Blocks come in order, so a
    value equal to the smallest kept one stands behind it and is dropped: the tie rule needs no comparison.
    """
    k = values.size
    for begin in range(0, block.size, _RUN):
        run = block[begin : begin + _RUN]
        if filled == k:
            # Counting is a vector loop: runs without a candidate, nearly all, cost no branch a value.
            least = abs(values[k - 1])
            above = 0
            for i in range(run.size):
                above += int(abs(run[i]) > least)
            if above == 0:
                continue
        for i in range(run.size):
            x = np.float64(run[i])
            size = abs(x)
            if filled == k and not size > abs(values[k - 1]):
                continue
            at = filled if filled < k else k - 1
            while at > 0 and abs(values[at - 1]) < size:
                values[at] = values[at - 1]
                positions[at] = positions[at - 1]
                at -= 1
            values[at] = x
            positions[at] = start + begin + i
            if filled < k:
                filled += 1
    return filled


@njit(cache=True, nogil=True, fastmath=_FAST)
def signed_rows(
    block: NDArray[Any],
    start: int,
    columns: int,
    rows: int,
    row_signs: NDArray[np.float64],
    bands: NDArray[np.float64],
) -> None:
    """Add the block, `bands[g, j] += sign[i] * w[i, j]`, with rows in contiguous bands g = i * k // rows.

    `block` is a run of the flattened matrix from flat position `start`; `bands` is k x columns float64. Four rows at a
    time, where the block holds them whole, touch each sum once instead of four times.
    """
    k = bands.shape[0]
    at = 0
    while at < block.size:
        flat = start + at
        i = flat // columns
        j = flat - i * columns
        g = i * k // rows
        if j == 0 and at + 4 * columns <= block.size and (i + 3) * k // rows == g:
            band = bands[g]
            a = block[at : at + columns]
            b = block[at + columns : at + 2 * columns]
            c = block[at + 2 * columns : at + 3 * columns]
            d = block[at + 3 * columns : at + 4 * columns]
            sa = row_signs[i]
            sb = row_signs[i + 1]
            sc = row_signs[i + 2]
            sd = row_signs[i + 3]
            for column in range(columns):
                band[column] += (sa * a[column] + sb * b[column]) + (sc * c[column] + sd * d[column])
            at += 4 * columns
        else:
            length = min(columns - j, block.size - at)
            sign = row_signs[i]
            part = bands[g, j : j + length]
            run = block[at : at + length]
            for column in range(length):
                part[column] += sign * np.float64(run[column])
            at += length
