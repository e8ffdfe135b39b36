"""Files that promise or unfold to more than there is, and a process that reads them all and says what it took.

    python -m tests.hostile_files DIR

writes and reads them in DIR, and prints one JSON object: case -> [reason, expected], and the peak of memory above what
was there before, in MB, and the slowest case in seconds.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from crawl.claims import read_claims
from crawl.formats.reading import read_entries
from crawl.local_file import LocalReader, open_below
from crawl.shards import read_index
from crawl.source import FileRef
from store.errors import SkipError

ROOM = 512 << 20
"""Bytes of address space that reading may take at most: beyond it the process has no more memory."""


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def zipped(name: bytes, content: bytes, entries: int = 1, method: int = 0, claimed: int | None = None) -> bytes:
    """A zip by hand: one entry, listed as often as is asked for."""
    size = len(content) if claimed is None else claimed
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 0, 0, len(content), size, len(name), 0)
    central = b"".join(
        struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, method, 0, 0, 0, len(content), size, len(name) + 7, 0, 0, 0, 0, 0, 0
        )
        + name
        + b"%07d" % at
        for at in range(entries)
    )
    if entries == 1:
        central = central.replace(b"0000000", b"").replace(
            struct.pack("<H", len(name) + 7) + b"\0\0", struct.pack("<H", len(name)) + b"\0\0", 1
        )
    data = local + name + content
    count = min(entries, 0xFFFE)
    return data + central + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(central), len(data), 0)


def pickled(opcodes: bytes) -> bytes:
    return zipped(b"a/data.pkl", b"\x80\x04" + opcodes + b".")


def big_text(size: int) -> bytes:
    """A text that is remembered as number 0."""
    return b"X" + struct.pack("<I", size) + b"a" * size + b"\x94"


def numbered(opcodes: bytes, count: int) -> bytes:
    """`opcodes` behind a number each."""
    return b"".join(b"J" + struct.pack("<i", at) + opcodes for at in range(count))


def doubled(at: int) -> bytes:
    """A list that holds what is remembered as number `at` twice, remembered as the next one."""
    return b"(h%ch%cl\x94" % (at, at)


OLDER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
"""What an older file of torch.save begins with."""

HALF = (1 << 19) * 25
"""Repetitions that make tens of megabytes."""

FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "header of a million empty lists": (
        "safetensors",
        lambda: safetensors(b'{"a":[' + b"[]," * HALF + b"[]]}"),
        "bad_header",
    ),
    "header of 1.9 million lists": (
        "safetensors",
        lambda: safetensors(b'{"a":[' + b"[]," * 949_000 + b"[]]}"),
        "bad_header",
    ),
    "header of long numbers": (
        "safetensors",
        lambda: safetensors(b'{"a":[' + (b"9" * 4000 + b",") * 5000 + b"1]}"),
        "bad_header",
    ),
    "header nested 10 million deep": ("safetensors", lambda: safetensors(b'{"a":' + b"[" * 10_000_000), "bad_header"),
    "pickle of dictionaries": (
        "torch",
        lambda: zipped(b"a/data.pkl", b"\x80\x02" + b"}" * (20 << 20) + b"."),
        "bad_pickle",
    ),
    "pickle that remembers": (
        "torch",
        lambda: zipped(b"a/data.pkl", b"\x80\x04" + b"]\x94" * (9 << 20) + b"."),
        "bad_pickle",
    ),
    "pickle that joins texts": ("torch", lambda: pickled(big_text(1 << 20) + b"h\0h\0\x93" * 3000), "no_tensors"),
    "pickle that copies a list": (
        "torch",
        lambda: pickled(b"ctorch\nSize\n\x94(" + b"N" * 400_000 + b"l\x85\x94" + b"h\0h\1R" * 2000),
        "bad_pickle",
    ),
    "pickle that copies a dictionary": (
        "torch",
        lambda: pickled(b"cbuiltins\ndict\n\x94(" + numbered(b"N\x86", 100_000) + b"l\x85\x94" + b"h\0h\1R" * 500),
        "bad_pickle",
    ),
    "pickle of many names for one thing": (
        "torch",
        lambda: pickled(b"}\x94(" + numbered(b"N", 20_000) + b"u0}(" + numbered(b"h\0", 30_000) + b"u"),
        "too_large",
    ),
    "pickle of a key in each dictionary": (
        "torch",
        lambda: pickled(big_text(8 << 20) + b"0}(" + numbered(b"}h\0Ns", 100_000) + b"u"),
        "no_tensors",
    ),
    "older pickle of lists of lists": (
        "torch",
        lambda: OLDER + b"\x80\x02}.\x80\x02}.\x80\x04(]\x94" + b"".join(doubled(at) for at in range(40)) + b"l.",
        "bad_header",
    ),
    "pickle of 1 GB": ("torch", lambda: zipped(b"a/data.pkl", bytes(40 << 20)), "bad_header"),
    "zip that unfolds": (
        "torch",
        lambda: zipped(b"a/data.pkl", b"\0" * 100, method=8, claimed=2**32 - 2),
        "compressed",
    ),
    "zip of 60,000 entries": ("torch", lambda: zipped(b"a/data/", b"", entries=60_000), "bad_zip"),
    "older pickle of lists": (
        "torch",
        lambda: OLDER + b"\x80\x02" + b"]" * (20 << 20),
        "bad_pickle",
    ),
    "10^18 tensors": ("gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 10**18, 0) + bytes(99), "bad_header"),
    "array of 2 million strings": (
        "gguf",
        lambda: (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + text(b"k")
            + struct.pack("<IIQ", 9, 8, 2_100_000)
            + text(b"") * 2_100_000
        ),
        "too_large",
    ),
    "300,000 keys": (
        "gguf",
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 300_000) + (text(b"k") + struct.pack("<IB", 0, 1)) * 300_000,
        "read",
    ),
    "graph of a million nodes": ("onnx", lambda: b"\x3a" + varint(2_400_000) + b"\x0a\x00" * 1_200_000, "too_large"),
    "graph of empty nodes": ("onnx", lambda: b"\x3a" + varint(1_000_000) + b"\x0a\x02\x0a\x00" * 250_000, "too_large"),
    "map of 4 billion": ("flax", lambda: b"\xdf\xff\xff\xff\xff" + b"\xa1a\x80" * (5 << 20), "too_large"),
    "superblock that leads nowhere": (
        "keras",
        lambda: b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(200),
        "unsupported_format",
    ),
}
TEXTS: dict[str, Callable[[], object]] = {
    "index of 20 million lists": lambda: read_index('{"weight_map":{' + "[]," * (20 << 20) + "}}"),
    "card of 50 MB": lambda: read_claims("---\n" + "a: [b]\n" * 7_000_000 + "---\n", None),
    "card of aliases": lambda: read_claims("---\na: &a [x,x]\n" + "b: &b [*a,*a]\n" * 500 + "---\n", None),
    "card nested deep": lambda: read_claims("---\ntags: " + "[" * 60_000 + "\n---\n", "[" * 900_000),
}


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except SkipError as error:
        return error.reason
    except MemoryError:
        return "MemoryError"
    return "read"


def main(folder: Path) -> None:
    for at, (_, make, _) in enumerate(FILES.values()):
        (folder / str(at)).write_bytes(make())
    told: dict[str, tuple[str, str]] = {}
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + ROOM, pages + ROOM))
    # What writing the files took is not what reading them takes.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    slowest = 0.0
    for at, (case, (kind, _, expected)) in enumerate(FILES.items()):
        path = folder / str(at)
        file = FileRef(path.name, path.stat().st_size)

        def opened(_: FileRef, path: Path = path) -> LocalReader:
            return open_below(str(folder), str(path), path.name)

        began = time.monotonic()
        told[case] = outcome(lambda: read_entries(kind, opened, file)), expected  # noqa: B023 called at once
        slowest = max(slowest, time.monotonic() - began)
    grown = peak() - before
    for case, call in TEXTS.items():
        told[case] = outcome(call), "bad_index" if "index" in case else "read"
    print(json.dumps({"told": told, "grown_mb": grown, "slowest_s": slowest}))


def peak() -> float:
    """Peak of resident memory since it was last cleared, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
