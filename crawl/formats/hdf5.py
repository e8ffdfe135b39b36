"""As much of HDF5 as Keras writes: groups, attributes that are lists of strings, where contiguous datasets lie.

The format (https://docs.hdfgroup.org/hdf5/develop/_f_m_t3.html) of the oldest version, which h5py writes unless told
otherwise: superblock 0, object headers of version 1, groups as B-trees of symbol tables. The libraries that read it
allocate what a header says, or are C that is not made for files of strangers; here every step is counted.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from crawl.formats.part_reader import PartReader
from crawl.source import RangeReader
from store.errors import SkipError

__all__ = ["Dataset", "Hdf5", "Node"]

MAX_STEPS: Final = 1_000_000
PAGE: Final = 1 << 14
MAX_PAGES: Final = 4096
"""Pages in memory at most: 64 MB."""
MAX_NAME: Final = 4096
MAX_BYTES: Final = 64 << 20
"""Bytes of the directory of one file: a model of 1,000 layers takes about 1 MB."""

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_DATASPACE, _DATATYPE, _LAYOUT, _ATTRIBUTE, _CONTINUED, _GROUP = 0x01, 0x03, 0x08, 0x0C, 0x10, 0x11
_FLOATS: Final = {(2, 5): "F16", (4, 8): "F32", (8, 11): "F64", (2, 8): "BF16"}
"""(bytes, bits of the exponent)."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Values of `dtype` from byte `start` on; `dtype` is None for types that are no numbers or big-endian."""

    dtype: str | None
    shape: tuple[int, ...]
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Node:
    """A group or dataset: the messages of its header, (type, content)."""

    messages: tuple[tuple[int, bytes], ...]


class Hdf5:
    """One file. Raises SkipError: "bad_header" for what contradicts itself, "unsupported_format" for newer versions,
    "too_large" beyond the limits, and what the reader raises."""

    def __init__(self, reader: RangeReader | PartReader) -> None:
        self._reader, self.path = reader, reader.path
        self._steps, self._bytes = MAX_STEPS, MAX_BYTES
        self._children: dict[int, dict[str, int]] = {}
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._pages: dict[int, bytes] = {}
        head = self._read(0, min(96, reader.size))
        if head[:8] != _MAGIC:
            raise self._bad("an HDF5 file", f"bytes that begin with {head[:4]!r}")
        if len(head) < 96 or head[8] != 0:
            version = head[8] if len(head) > 8 else "no"
            raise SkipError(
                "unsupported_format", f"{reader.path}: expected an HDF5 superblock of version 0, found {version}"
            )
        if head[13] != 8 or head[14] != 8 or struct.unpack_from("<Q", head, 24)[0] != 0:
            raise SkipError("unsupported_format", f"{reader.path}: expected HDF5 addresses of 8 bytes from byte 0 on")
        self.root_at: int = struct.unpack_from("<Q", head, 64)[0]
        self.root = self.node(self.root_at)

    def child(self, node: Node, path: str) -> Node | None:
        """What `path`, of names with `/`, leads to from a group; None when it is not there."""
        for name in path.split("/"):
            at = self._names(node).get(name)
            if at is None:
                return None
            node = self.node(at)
        return node

    def members(self, group: Node) -> dict[str, int]:
        """Name -> address (`node`) of what is in a group; nothing of what is none."""
        return dict(self._names(group))

    def node(self, at: int) -> Node:
        """The object whose header is at byte `at`."""
        head = self._read(at, 16)
        if head[0] != 1:
            raise SkipError("unsupported_format", f"{self._reader.path}: expected object headers of version 1")
        count, size = struct.unpack_from("<H4xI", head, 2)
        found: list[tuple[int, bytes]] = []
        blocks = [(at + 16, size)]
        while blocks and len(found) < count:
            start, length = blocks.pop(0)
            block = self._read(start, length)
            inside = 0
            while inside + 8 <= len(block) and len(found) < count:
                kind, length = struct.unpack_from("<HH", block, inside)
                content = block[inside + 8 : inside + 8 + length]
                if len(content) < length:
                    raise self._bad("messages that fit their header", "a longer one")
                if kind == _CONTINUED and length >= 16:
                    blocks.append(struct.unpack_from("<QQ", content))
                self._step()
                found.append((kind, content))
                inside += 8 + length
        return Node(tuple(found))

    def strings(self, node: Node, name: str) -> list[str] | None:
        """An attribute that is a list of strings; None when there is none of that name."""
        for kind, content in node.messages:
            if kind != _ATTRIBUTE or len(content) < 8:
                continue
            version = content[0]
            sizes = struct.unpack_from("<HHH", content, 2)
            at = 9 if version == 3 else 8
            # Version 1 fills each part up to 8 bytes.
            parts = []
            for size in sizes:
                parts.append(content[at : at + size])
                at += -(-size // 8) * 8 if version == 1 else size
            if parts[0].split(b"\0")[0] == name.encode():
                return self._strings(parts[1], parts[2], content[at:])
        return None

    def dataset(self, node: Node) -> Dataset:
        """Where the values lie. Raises SkipError("unsupported_layout") for chunks and for what is no dataset."""
        messages = dict(node.messages)
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= messages.keys():
            raise self._bad("a dataset", "a group")
        layout = messages[_LAYOUT]
        if len(layout) < 18 or layout[0] not in (3, 4) or layout[1] != 1:
            raise SkipError("unsupported_layout", f"{self._reader.path}: expected values in one piece, found chunks")
        start, length = struct.unpack_from("<QQ", layout, 2)
        return Dataset(_dtype(messages[_DATATYPE]), self._shape(messages[_DATASPACE]), start, length)

    def _strings(self, datatype: bytes, dataspace: bytes, content: bytes) -> list[str]:
        count = math.prod(self._shape(dataspace))
        kind = datatype[0] & 15 if len(datatype) >= 8 else 0
        if kind not in (3, 9):
            # What was saved as a list of no names at all has no strings.
            if count == 0:
                return []
            raise SkipError("unsupported_format", f"{self._reader.path}: expected an attribute of names")
        # Of variable length: 4 bytes of length, and 12 that say where in which heap.
        size = struct.unpack_from("<I", datatype, 4)[0] if kind == 3 else 16
        if size * count > len(content) or (size == 0 and count):
            raise self._bad(f"{count} names of {size} bytes", f"{len(content)} bytes")
        # Groups of a thousand names can each be found under a thousand names.
        self._step(count)
        pieces = [content[at * size : (at + 1) * size] for at in range(count)]
        if kind == 9:
            pieces = [self._heap_object(*struct.unpack("<IQI", piece)) for piece in pieces]
        return [piece.rstrip(b"\0").decode("utf-8", "surrogateescape") for piece in pieces]

    def _heap_object(self, length: int, heap: int, index: int) -> bytes:
        """The string of an index in a global heap, which any number of names may be: long ones are refused."""
        if length > MAX_NAME:
            raise self._bad(f"names of at most {MAX_NAME} bytes", f"one of {length}")
        if heap not in self._heaps:
            head = self._read(heap, 16)
            (size,) = struct.unpack_from("<Q", head, 8)
            if head[:4] != b"GCOL" or size < 16:
                raise self._bad("a heap of strings", "none")
            block = self._read(heap + 16, size - 16)
            found: dict[int, bytes] = {}
            at = 0
            while at + 16 <= len(block):
                number, width = struct.unpack_from("<H6xQ", block, at)
                if number == 0:
                    break
                found[number] = block[at + 16 : at + 16 + width]
                at += 16 + -(-width // 8) * 8
                self._step()
            self._heaps[heap] = found
        if index not in self._heaps[heap]:
            raise self._bad(f"string {index} in its heap", "none")
        return self._heaps[heap][index][:length]

    def _shape(self, dataspace: bytes) -> tuple[int, ...]:
        if len(dataspace) < 4 or dataspace[0] not in (1, 2):
            raise self._bad("a dataspace of version 1 or 2", "another")
        rank, at = dataspace[1], 8 if dataspace[0] == 1 else 4
        if rank > 32 or at + 8 * rank > len(dataspace):
            raise self._bad("a dataspace of at most 32 axes", f"{rank}")
        return struct.unpack_from(f"<{rank}Q", dataspace, at)

    def _names(self, node: Node) -> dict[str, int]:
        """Name -> address of what is in a group."""
        tables = [content for kind, content in node.messages if kind == _GROUP]
        if not tables or len(tables[0]) < 16:
            return {}
        tree, heap = struct.unpack_from("<QQ", tables[0])
        if tree not in self._children:
            self._children[tree] = self._read_names(tree, heap)
        return self._children[tree]

    def _read_names(self, tree: int, heap: int) -> dict[str, int]:
        head = self._read(heap, 32)
        if head[:4] != b"HEAP":
            raise self._bad("a heap of names", "none")
        size, _, start = struct.unpack_from("<QQQ", head, 8)
        names = self._read(start, size)
        found: dict[str, int] = {}
        waiting, seen = [tree], {tree}
        while waiting:
            at = waiting.pop()
            head = self._read(at, 24)
            if head[:4] == b"SNOD":
                (count,) = struct.unpack_from("<H", head, 6)
                entries = self._read(at + 8, 40 * count)
                for entry in range(count):
                    offset, target = struct.unpack_from("<QQ", entries, 40 * entry)
                    if offset < len(names):
                        # Names are bounded by the heap; the same one again and again is no gain.
                        end = names.find(b"\0", offset)
                        found[names[offset : min(end, offset + MAX_NAME)].decode("utf-8", "surrogateescape")] = target
                    self._step()
            elif head[:4] == b"TREE" and head[4] == 0:
                (count,) = struct.unpack_from("<H", head, 6)
                content = self._read(at + 24, 16 * count + 8)
                children = struct.unpack_from(f"<{2 * count}Q", content)[1::2]
                waiting += [child for child in children if child not in seen]
                seen.update(children)
            else:
                raise self._bad("a B-tree of names", "none")
        return found

    def _read(self, start: int, size: int) -> bytes:
        self._step()
        self._bytes -= size
        if self._bytes < 0:
            raise SkipError("too_large", f"{self._reader.path}: expected a directory of at most {MAX_BYTES} bytes")
        if start + size > self._reader.size:
            raise self._bad(f"its directory within {self._reader.size} bytes", f"{size} bytes at {start}")
        raw = bytearray()
        while len(raw) < size:
            page, inside = divmod(start + len(raw), PAGE)
            raw += self._page(page)[inside : inside + size - len(raw)]
        return bytes(raw)

    def _page(self, number: int) -> bytes:
        """What a directory is made of lies close together, and is asked for a few bytes at a time."""
        if number not in self._pages:
            at = number * PAGE
            page = bytearray(min(PAGE, self._reader.size - at))
            self._reader.read_into(at, memoryview(page))
            if len(self._pages) >= MAX_PAGES:
                self._pages.clear()
            self._pages[number] = bytes(page)
        return self._pages[number]

    def _step(self, steps: int = 1) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise SkipError("too_large", f"{self._reader.path}: expected a directory of at most {MAX_STEPS} entries")

    def _bad(self, expected: str, found: str) -> SkipError:
        return SkipError("bad_header", f"{self._reader.path}: expected {expected}, found {found}")


def _dtype(datatype: bytes) -> str | None:
    if len(datatype) < 8:
        return None
    kind, flags = datatype[0] & 15, datatype[1]
    (size,) = struct.unpack_from("<I", datatype, 4)
    if flags & 1:
        return None
    if kind == 1 and len(datatype) >= 20:
        return _FLOATS.get((size, datatype[13]))
    if kind == 5 and size == 2:
        # HDF5 has no bfloat16: h5py stores it as two bytes of nothing in particular, and Keras nothing else so.
        return "BF16"
    if kind == 0 and size in (1, 2, 4, 8):
        return f"{'I' if flags & 8 else 'U'}{8 * size}"
    return None
