"""The tensors of one file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from crawl.formats.entry import OnSkip, OpenFile, TensorEntry
from crawl.formats.gguf_file import read_gguf
from crawl.formats.keras_file import read_keras
from crawl.formats.msgpack_file import read_flax
from crawl.formats.onnx_file import read_onnx
from crawl.formats.torch_file import read_torch
from crawl.safetensors_file import read_header
from crawl.source import FileRef, RangeReader

__all__ = ["read_entries"]


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
    format's reader says, and what the source raises; what single tensors are left out for is told to `on_skip`.
    """
    with open_file(file) as reader:
        return _FORMATS[kind](reader, file, on_skip, siblings or {})
