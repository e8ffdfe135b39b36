"""Search vectors of one architecture's models in one file that grows by appending: derived data, made anew from the
sketches when it is missing, damaged, or of another layout.

A head of JSON, padded to a page, then records of one size: model id, 16 bytes of content, the vector, and a checksum of
all three. A write that a kill cut short is a last record that does not check; what follows it is written over it. A
record counts only while the graph knows its model with that content, so that no generation can be misled by another.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Vectors",
    "append_vectors",
    "has_layout",
    "let_go",
    "mapped_vectors",
    "placed_vectors",
    "shown_vectors",
    "stored_layout",
    "write_vectors",
]

_PAGE: Final = 4096
_LONGEST_HEAD: Final = 16 << 20
_AT_ONCE: Final = 256
"""Records that are looked at together: so many stay in the processor's cache."""
_WRITTEN: Final = 16_384
"""Records that are made for writing, or held in memory while they are read, at a time."""
_MAGIC: Final = "modelkin vectors 1"


@dataclass(frozen=True, slots=True)
class Vectors:
    """n models: ids, contents (n x 2: 16 bytes each), and their vectors, n x D float32."""

    model_ids: NDArray[np.int64]
    contents: NDArray[np.uint64]
    values: NDArray[np.float32]


def _record(dimensions: int) -> np.dtype[np.void]:
    """A whole number of 8-byte words, the check last."""
    padding = [("pad", "<f4")] if dimensions % 2 else []
    vector = ("vector", "<f4", (dimensions,))
    return np.dtype([("id", "<i8"), ("content", "<u8", 2), vector, *padding, ("check", "<u8")])


def _checks(records: NDArray[np.void]) -> NDArray[np.uint64]:
    """A sum that a record of zeros or one that was cut short does not have: all of it is read each time."""
    sums = np.empty(len(records), np.uint64)
    for first in range(0, len(records), _AT_ONCE):
        block = np.ascontiguousarray(records[first : first + _AT_ONCE])
        words = block.view(np.uint64).reshape(len(block), records.itemsize // 8)[:, :-1]
        sums[first : first + _AT_ONCE] = np.add.reduce(words, axis=1, dtype=np.uint64)
    return sums ^ np.uint64(0x9E3779B97F4A7C15)


def _head(layout: Mapping[str, int]) -> bytes:
    text = json.dumps({"format": _MAGIC, "layout": dict(layout)}).encode()
    return text.ljust(-(-(len(text) + 1) // _PAGE) * _PAGE, b"\n")


def stored_layout(path: Path) -> dict[str, int] | None:
    """Coordinates a tensor of the file's vectors; None when there is no such file, or its head is damaged."""
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_HEAD)
        told = json.loads(first)
        layout = {str(name): int(count) for name, count in told["layout"].items()}
        if told["format"] != _MAGIC or not layout or not all(0 < count < _LONGEST_HEAD for count in layout.values()):
            return None
        return layout
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def has_layout(path: Path, layout: Mapping[str, int]) -> bool:
    """Is there a file whose records are of this layout, so that others can be added?"""
    head = _head(layout)
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head
    except OSError:
        return False


def placed_vectors(
    path: Path, layout: Mapping[str, int], model_ids: NDArray[np.int64], contents: NDArray[np.uint64], room: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """(n + room x D vectors, n: which of them the file holds) of those models (ids in rising order, contents n x 2).

    The others' are zeros. So nobody who adds some has to hold all of them twice. `layout` is coordinates a tensor;
    other and damaged records are passed over. None when there is no such file, or it holds none of them: of its head, D
    may be what is damaged.
    """
    told = _told(path, layout, model_ids, contents)
    if told is None or not told[1].size:
        return None
    found, rows, places = told
    values = np.zeros((len(model_ids) + room, sum(layout.values())), np.float32)
    for first in range(0, len(rows), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        values[places[some]] = found["vector"][rows[some]]
    let_go(found)
    there = np.zeros(len(model_ids), bool)
    there[places] = True
    return values, there


def mapped_vectors(
    path: Path, layout: Mapping[str, int], model_ids: NDArray[np.int64], contents: NDArray[np.uint64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """(vectors of the file, where they lie there; n: which of them each model's is, -1 where the file has none), as
    `placed_vectors`, without a copy of any."""
    told = _told(path, layout, model_ids, contents)
    if told is None or not told[1].size:
        return None
    found, rows, at = told
    places = np.full(len(model_ids), -1)
    places[at] = rows
    return np.asarray(found["vector"]), places


def shown_vectors(path: Path, layout: Mapping[str, int]) -> NDArray[np.float32] | None:
    """The vectors of a file, none of which is looked at; None where there is no file of this layout."""
    found = _mapped(path, layout)
    return None if found is None else np.asarray(found["vector"])


def _mapped(path: Path, layout: Mapping[str, int]) -> NDArray[np.void] | None:
    head = _head(layout)
    record = _record(sum(layout.values()))
    try:
        with path.open("rb") as file:
            if file.read(len(head)) != head:
                return None
            count = (os.fstat(file.fileno()).st_size - len(head)) // record.itemsize
            return np.memmap(file, record, "r", len(head), (count,)) if count else np.empty(0, record)
    except OSError:
        return None


def let_go(values: NDArray[Any]) -> None:
    """Hold no longer in memory what was looked at of a file that an array shows: it is read again when it is looked at
    again. Does nothing with other arrays, and where the system knows no such call."""
    base: Any = values
    of_file = False
    while base is not None and not isinstance(base, mmap.mmap):
        of_file = of_file or isinstance(base, np.memmap)
        base = getattr(base, "base", None)
    # What is mapped without a file would be lost.
    if base is not None and of_file and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _told(
    path: Path, layout: Mapping[str, int], model_ids: NDArray[np.int64], contents: NDArray[np.uint64]
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]] | None:
    """(records of the file; places of those that count, by rising id; which of the models they are of)."""
    found = _mapped(path, layout)
    if found is None:
        return None
    ids, held = np.empty(len(found), np.int64), np.empty((len(found), 2), np.uint64)
    whole = np.empty(len(found), bool)
    for begin in range(0, len(found), _WRITTEN):
        some = slice(begin, begin + _WRITTEN)
        ids[some], held[some] = found["id"][some], found["content"][some]
        whole[some] = _checks(found[some]) == found["check"][some]
        let_go(found)
    at = np.minimum(np.searchsorted(model_ids, ids), max(len(model_ids) - 1, 0))
    known = np.zeros(len(found), bool)
    if len(model_ids):
        known = (model_ids[at] == ids) & (contents[at] == held).all(axis=1)
    rows = np.flatnonzero(known & whole)
    # A record that was damaged once is written again at the end.
    _, first = np.unique(ids[rows][::-1], return_index=True)
    rows = rows[::-1][first]
    return found, rows, at[rows]


def _records(vectors: Vectors) -> NDArray[np.void]:
    records = np.zeros(len(vectors.model_ids), _record(vectors.values.shape[1]))
    records["id"], records["content"], records["vector"] = vectors.model_ids, vectors.contents, vectors.values
    records["check"] = _checks(records)
    return records


def append_vectors(path: Path, layout: Mapping[str, int], vectors: Vectors) -> int:
    """Add records to a file of this layout; which of its records the first of them is. Raises OSError when it cannot be
    written."""
    start, size = len(_head(layout)), _record(vectors.values.shape[1]).itemsize
    with path.open("r+b") as file:
        whole = (os.fstat(file.fileno()).st_size - start) // size
        file.truncate(start + whole * size)
        file.seek(start + whole * size)
        file.write(_records(vectors).tobytes())
    return int(whole)


def write_vectors(path: Path, layout: Mapping[str, int], vectors: Vectors) -> None:
    """A new file in place of the old one. Raises OSError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_head(layout))
            for first in range(0, len(vectors.model_ids), _WRITTEN):
                some = slice(first, first + _WRITTEN)
                part = Vectors(vectors.model_ids[some], vectors.contents[some], vectors.values[some])
                file.write(_records(part).tobytes())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
