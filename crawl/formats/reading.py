"""The tensors of one file, whatever its format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry
from crawl.formats.gguf_file import read_gguf
from crawl.formats.keras_file import read_keras
from crawl.formats.msgpack_file import read_flax
from crawl.formats.onnx_file import read_onnx
from crawl.formats.torch_file import read_torch
from crawl.formats.values import MAX_SHARING
from crawl.safetensors_file import read_header
from crawl.source import FileRef, RangeReader
from store.errors import SkipError

__all__ = ["read_entries"]

MAX_AXES: Final = 64
"""What NumPy can hold."""


class _Read(Protocol):
    def __call__(
        self, reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
    ) -> list[TensorEntry]: ...


def _safetensors(
    reader: RangeReader, file: FileRef, on_skip: OnSkip | None, siblings: Mapping[str, FileRef]
) -> list[TensorEntry]:
    return read_header(reader, on_skip)


_FORMATS: Final[Mapping[str, _Read]] = {
    "safetensors": _safetensors,
    "torch": read_torch,
    "flax": read_flax,
    "keras": read_keras,
    "gguf": read_gguf,
    "onnx": read_onnx,
}


def read_entries(
    kind: str,
    open_file: OpenFile,
    file: FileRef,
    on_skip: OnSkip | None = None,
    siblings: Mapping[str, FileRef] | None = None,
) -> list[TensorEntry]:
    """The tensors of `file`, which is of the format `kind`, in the order of their bytes: reads no weights.

    `siblings` are the model's files by path, for formats that keep values beside the file. Raises SkipError as the
    format's reader says, "bad_header" when tensors lie in one another, and what the source raises; what single tensors
    are left out for is told to `on_skip`.
    """
    with open_file(file) as reader:
        entries = _FORMATS[kind](reader, file, on_skip, siblings or {})
    kept = []
    for entry in entries:
        # An axis may have any length that fits the header where another one is 0.
        if len(entry.shape) <= MAX_AXES and all(0 <= size < 2**63 for size in entry.shape):
            kept.append(entry)
        elif on_skip is not None:
            shown = list(entry.shape)[:8]
            on_skip(file.path, entry.name, SkipError("bad_header", f"{file.path}: tensor {entry.name}: shape {shown}"))
    _check_sharing(kind, file, kept)
    return kept


def _check_sharing(kind: str, file: FileRef, entries: Sequence[TensorEntry]) -> None:
    """A file may place all of its tensors on the same bytes: a kilobyte of header then costs hours."""
    if kind == "torch":
        # A storage is the place of all its views. Its reader looks at what these are together.
        return
    taken: dict[FileRef, int] = defaultdict(int)
    for entry in entries:
        taken[entry.file or file] += entry.stop - entry.start
    for place, size in taken.items():
        if size > MAX_SHARING * place.size:
            raise SkipError(
                "bad_header",
                f"{place.path}: expected tensors of at most {MAX_SHARING} times its {place.size} bytes, found {size}",
            )
