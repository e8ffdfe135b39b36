"""Feed damaged files to every parser of what strangers write, and say what came of it.

    scripts/fuzz --seconds 60 --seed 1 [--parsers torch gguf] [--keep DIR]

Each parser runs in a process of its own with bounded memory. Whatever is done to a file, a parser may read it or skip
it with a reason; anything else (another exception, more memory, a message that could be a terminal's command) is a
failure, and its input is kept in DIR. Exit status 1 when there was one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from crawl.claims import read_claims
from crawl.formats.entry import TensorEntry
from crawl.formats.packed import is_packed, unpacked
from crawl.formats.reading import read_entries
from crawl.names import is_plain
from crawl.shards import read_index
from crawl.source import FileRef
from scripts.fuzz_seeds import seeds_of
from scripts.memory_file import MemoryFile
from store.dtypes import DTYPES
from store.errors import SkipError

__all__ = ["PARSERS", "damaged", "examine", "main"]

MEMORY: Final = 1 << 30
"""Bytes of address space beyond what is there before the first case."""
DECODED: Final = 1 << 16
"""Values of a tensor that are read, from its start and from its end."""

_NUMBERS: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS: Final = (b"\x1b[2J", b"../", b"/etc/passwd", b"\0", b"{" * 99, b"[" * 99, b'"', b"1e999", b"-1", b"&a *a")


def damaged(raw: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """`raw` after one to eight changes: bits, bytes, numbers, pieces moved, doubled, cut, or taken from `other`."""
    data = bytearray(raw)
    for _ in range(int(random.integers(1, 9))):
        if not data:
            break
        # Headers are at the start or the end: half of all changes are made within 512 bytes of one.
        near = int(random.integers(4))
        at = int(random.integers(len(data)))
        at = at if near > 1 else min(at, 511) if near else max(at, len(data) - 512)
        length = int(random.integers(1, 65))
        match int(random.integers(9)):
            case 0:
                data[at] ^= 1 << int(random.integers(8))
            case 1:
                data[at] = int(random.integers(256))
            case 2:
                width = int(random.choice([1, 2, 4, 8]))
                number = _NUMBERS[int(random.integers(len(_NUMBERS)))] % (1 << 8 * width)
                data[at : at + width] = number.to_bytes(width, "little" if random.integers(4) else "big")
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                del data[at : at + length]
            case 5:
                del data[at:]
            case 6:
                start = int(random.integers(max(1, len(other))))
                data[at : at + length] = other[start : start + length]
            case 7:
                data[at:at] = _TEXTS[int(random.integers(len(_TEXTS)))]
            case _:
                start = int(random.integers(len(data)))
                data[at : at + length] = data[start : start + length]
    return bytes(data)


def examine(kind: str, raw: bytes) -> tuple[str, int]:
    """What became of one file: "read" or the reason that it was skipped for, and how many tensors were read.

    Raises AssertionError for a message that cannot be printed, and whatever a parser raises but SkipError.
    """
    try:
        return "read", PARSERS[kind](raw)
    except SkipError as error:
        _printable(str(error))
        if "MemoryError" in str(error):
            raise AssertionError(f"more memory than there is: {error}") from error
        return error.reason, 0


def _printable(text: str) -> None:
    """Raise AssertionError for a text that must not reach a terminal."""
    if text and not is_plain(text[:1024]):
        raise AssertionError(f"a message that cannot be shown: {text!a:.200}")


def _tensors(kind: str) -> Callable[[bytes], int]:
    def run(raw: bytes) -> int:
        file = FileRef("m", len(raw))

        def note(path: str, name: str, why: SkipError) -> None:
            _printable(name)
            _printable(str(why))

        def opened(_: FileRef) -> MemoryFile:
            return MemoryFile("m", raw)

        found = {entry.name: (file, entry) for entry in read_entries(kind, opened, file, note, {"m": file})}
        if kind == "safetensors" and is_packed(found):
            found = unpacked(found, None, opened, note)
        for name, (_, entry) in found.items():
            _printable(name)
            try:
                _decode(entry, file, opened)
            except SkipError as error:
                note("m", name, error)
        return len(found)

    return run


def _decode(entry: TensorEntry, file: FileRef, opened: Callable[[FileRef], MemoryFile]) -> None:
    width = DTYPES[entry.dtype].itemsize
    read = entry.opened(opened, file)
    count = min(entry.elements, DECODED)
    if count:
        buffer = memoryview(bytearray(count * width))
        read(0, buffer)
        read((entry.elements - count) * width, buffer)


def _card(raw: bytes) -> int:
    claims = read_claims(raw.decode("utf-8", "replace"), raw.decode("utf-8", "replace"))
    for claim in claims:
        _printable(claim.value)
    return len(claims)


def _index(raw: bytes) -> int:
    return len(read_index(raw.decode("utf-8", "replace")))


PARSERS: Final[Mapping[str, Callable[[bytes], int]]] = {
    **{kind: _tensors(kind) for kind in ("safetensors", "torch", "gguf", "onnx", "flax", "keras")},
    "card": _card,
    "index": _index,
}


def run_one(kind: str, seconds: float, seed: int, keep: Path) -> dict[str, Any]:
    """Fuzz one parser in this process."""
    seeds = seeds_of(kind)
    for raw in seeds:
        examine(kind, raw)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    tensors, slowest, cases = 0, 0.0, 0
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        one, other = random.integers(len(seeds), size=2)
        raw = damaged(seeds[int(one)], seeds[int(other)], random)
        began = time.monotonic()
        try:
            outcome, read = examine(kind, raw)
            outcomes[outcome] += 1
            tensors += read
        except Exception as error:  # noqa: BLE001 whatever it is, it is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {ascii(str(error))[:100]}"
            if failures[where] < 1:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{kind}-{seed}-{cases}").write_bytes(raw)
            failures[where] += 1
        slowest = max(slowest, time.monotonic() - began)
        cases += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "parser": kind,
        "seeds": len(seeds),
        "cases": cases,
        "read": outcomes.pop("read", 0),
        "tensors": tensors,
        "skipped": dict(outcomes.most_common()),
        "slowest_ms": round(1000 * slowest, 1),
        "grown_mb": round(grown / 1024, 1),
        "failures": dict(failures),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Damaged files against every parser.")
    parser.add_argument("--seconds", type=float, default=10, help="a parser (10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parsers", nargs="+", choices=list(PARSERS), default=list(PARSERS))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "modelkin-fuzz")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        (kind,) = options.parsers
        print(json.dumps(run_one(kind, options.seconds, options.seed, options.keep)))
        return 0
    failed = False
    for kind in options.parsers:
        command = [sys.executable, "-m", "scripts.fuzz", "--here", "--parsers", kind, "--keep", str(options.keep)]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            # Killed by a signal, or out of memory where no exception could be made of it.
            said = done.stderr.strip().splitlines()[-1:] or [""]
            row = {"parser": kind, "failures": {f"the process ended with {done.returncode}: {said[0]}": 1}}
        else:
            row = json.loads(done.stdout)
        failed = failed or bool(row["failures"])
        _show(row, options.json)
    return int(failed)


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
        return
    if "cases" in row:
        skipped = ", ".join(f"{reason} {count}" for reason, count in list(row["skipped"].items())[:5])
        print(
            f"{row['parser']:12} {row['cases']:8} cases  {row['read']:7} read  {row['tensors']:8} tensors  "
            f"slowest {row['slowest_ms']:7.1f} ms  +{row['grown_mb']:6.1f} MB  {len(row['failures'])} failures  "
            f"({skipped})",
            flush=True,
        )
    for where, count in row["failures"].items():
        print(f"  {row['parser']}: {count} x {where}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
