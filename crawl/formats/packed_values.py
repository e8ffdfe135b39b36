"""Packed weights taken apart, a run at a time: GPTQ, AWQ, bitsandbytes, scaled rows and blocks. All give float32."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crawl.formats.entry import OpenFile, Values
from crawl.formats.values import read_array
from store.errors import SkipError

__all__ = ["AwqWeights", "BlockWeights", "GptqWeights", "PackedRows", "ScaledWeights"]

Floats = NDArray[np.float32]

_AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column, of eight, that each nibble of an int32 holds, lowest first."""


def _fields(packed: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """int32 to its fields of `bits`, lowest first, as a new last axis."""
    words = np.ascontiguousarray(packed).view(np.uint32)[..., None]
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return ((words >> shifts) & np.uint32((1 << bits) - 1)).astype(np.float32)


@dataclass(slots=True)
class _Grouped:
    """Scales and zeros of the groups of a matrix [inputs, outputs], read once."""

    weight: Values
    zeros: Values
    scales: Values
    inputs: int
    outputs: int
    groups: int
    held: tuple[Floats, Floats] | None = field(default=None, init=False)

    def group_values(self, open_file: OpenFile, bits: int) -> tuple[Floats, NDArray[Any]]:
        scales = read_array(self.scales, open_file, (self.groups, self.outputs)).astype(np.float32)
        zeros = read_array(self.zeros, open_file, (self.groups, self.outputs * bits // 32))
        return scales, _fields(zeros, bits)


class GptqWeights:
    """[inputs, outputs] in C order; `less` is 1 where zeros are stored less 1."""

    def __init__(
        self,
        weight: Values,
        zeros: Values,
        scales: Values,
        index: Values | None,
        inputs: int,
        outputs: int,
        groups: int,
        bits: int,
        less: int,
    ) -> None:
        self._parts = _Grouped(weight, zeros, scales, inputs, outputs, groups)
        self._index, self._bits, self._less = index, bits, less
        self._groups_of: NDArray[np.int64] | None = None

    @property
    def unit(self) -> int:
        return 32 // self._bits * self._parts.outputs

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        parts, pack = self._parts, 32 // self._bits
        if parts.held is None:
            scales, zeros = parts.group_values(open_file, self._bits)
            parts.held = scales, zeros.reshape(parts.groups, parts.outputs) + np.float32(self._less)
            self._groups_of = self._read_index(open_file)
        scales, zeros = parts.held
        assert self._groups_of is not None
        packed = parts.weight.read(open_file, first // pack, count // pack).reshape(-1, parts.outputs)
        values = _fields(packed, self._bits).swapaxes(1, 2).reshape(-1, parts.outputs)
        top = first // parts.outputs
        group = self._groups_of[top : top + len(values)]
        return np.asarray((values - zeros[group]) * scales[group]).reshape(-1)

    def _read_index(self, open_file: OpenFile) -> NDArray[np.int64]:
        parts = self._parts
        if self._index is None:
            return np.arange(parts.inputs) // (parts.inputs // parts.groups)
        index = read_array(self._index, open_file, (parts.inputs,)).astype(np.int64)
        if index.size and not (index.min() >= 0 and index.max() < parts.groups):
            raise SkipError("bad_quantization", f"expected g_idx below {parts.groups}, found {int(index.max())}")
        return index


class AwqWeights:
    """[inputs, outputs] in C order, 4 bits."""

    def __init__(self, weight: Values, zeros: Values, scales: Values, inputs: int, outputs: int, groups: int) -> None:
        self._parts = _Grouped(weight, zeros, scales, inputs, outputs, groups)

    @property
    def unit(self) -> int:
        return self._parts.outputs

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        parts = self._parts
        if parts.held is None:
            scales, zeros = parts.group_values(open_file, 4)
            parts.held = scales, _awq_columns(zeros)
        scales, zeros = parts.held
        packed = parts.weight.read(open_file, first // 8, count // 8).reshape(-1, parts.outputs // 8)
        values = _awq_columns(_fields(packed, 4))
        top = first // parts.outputs
        group = np.arange(top, top + len(values)) // (parts.inputs // parts.groups)
        return np.asarray((values - zeros[group]) * scales[group]).reshape(-1)


def _awq_columns(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """[rows, words, 8] in AWQ's order to [rows, columns]."""
    ordered = np.empty_like(fields)
    ordered[..., list(_AWQ_ORDER)] = fields
    return ordered.reshape(len(fields), -1)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Values of `bits` in the int32 of `weight`, in order, less half of their range."""

    weight: Values
    bits: int

    @property
    def unit(self) -> int:
        return 32 // self.bits

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        words = self.weight.read(open_file, first // self.unit, count // self.unit)
        return (_fields(words, self.bits) - np.float32(1 << (self.bits - 1))).reshape(-1)


@dataclass(slots=True)
class ScaledWeights:
    """A matrix of `shape` in a grid of blocks that have a scale each, and a zero point where there is one.

    `scale`, times `factor`, has the shape `parts` (rows x 1 where None), `zero` that of `zero_parts`.
    """

    weight: Values
    scale: Values
    shape: tuple[int, int]
    block: tuple[int, int]
    factor: float
    parts: tuple[int, int] | None = None
    zero: Values | None = None
    zero_parts: tuple[int, int] = (1, 1)
    held: tuple[Floats, Floats] | None = field(default=None, init=False)

    @property
    def unit(self) -> int:
        return max(1, self.shape[1])

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        if self.held is None:
            scale = read_array(self.scale, open_file, self.parts or (self.shape[0], 1)).astype(np.float32)
            zero = np.zeros((1, 1), np.float32)
            if self.zero is not None:
                zero = read_array(self.zero, open_file, self.zero_parts).astype(np.float32)
            self.held = scale * np.float32(self.factor), zero
        columns = self.shape[1]
        values = self.weight.read(open_file, first, count).astype(np.float32).reshape(-1, columns)
        rows = np.arange(first // columns, first // columns + len(values))
        scale, zero = (self._spread(part, rows) for part in self.held)
        return np.asarray((values - zero) * scale).reshape(-1)

    def _spread(self, part: Floats, rows: NDArray[Any]) -> Floats:
        """The entries of a grid for these rows, and for each column where it has several."""
        found = part[np.minimum(rows // self.block[0], len(part) - 1)]
        if part.shape[1] > 1:
            found = found[:, np.minimum(np.arange(self.shape[1]) // self.block[1], part.shape[1] - 1)]
        return np.asarray(found)


@dataclass(slots=True)
class BlockWeights:
    """Two values a byte, the first one in the high half; an entry of a map of 16 times the scale of its block."""

    weight: Values
    absmax: Values
    table: Values
    nested_absmax: Values | None
    nested_table: Values | None
    elements: int
    block: int
    blocks: int
    nested_block: int
    offset: float
    nested_blocks: int
    held: tuple[Floats, Floats] | None = field(default=None, init=False)

    @property
    def unit(self) -> int:
        return self.block

    def read(self, open_file: OpenFile, first: int, count: int) -> NDArray[Any]:
        if self.held is None:
            self.held = self._scales(open_file), read_array(self.table, open_file, (16,)).astype(np.float32)
        scales, table = self.held
        packed = self.weight.read(open_file, first // 2, -(-count // 2)).view(np.uint8)
        values = table[np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:count]]
        return np.asarray(values * scales[np.arange(first, first + count) // self.block])

    def _scales(self, open_file: OpenFile) -> Floats:
        stored = read_array(self.absmax, open_file, (self.blocks,))
        if self.nested_absmax is None or self.nested_table is None:
            return stored.astype(np.float32)
        outer = read_array(self.nested_absmax, open_file, (self.nested_blocks,)).astype(np.float32)
        table = read_array(self.nested_table, open_file, (256,)).astype(np.float32)
        at = np.arange(self.blocks) // self.nested_block
        if stored.dtype != np.uint8 or (self.blocks and int(at[-1]) >= self.nested_blocks):
            raise SkipError("bad_quantization", f"expected scales for {self.blocks} blocks, found {self.nested_blocks}")
        return np.asarray(table[stored] * outer[at] + np.float32(self.offset), np.float32)
