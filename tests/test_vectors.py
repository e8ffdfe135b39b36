"""Files of vectors that are mapped: what was looked at is not held, and is there again when it is looked at."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from store.vectors import Vectors, let_go, mapped_vectors, write_vectors


def held_kb(path: Path) -> int:
    """What of a mapped file this process holds."""
    held, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            held += int(line.split()[1])
    return held


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux says what a process holds")
def test_what_is_let_go_is_not_held_and_comes_again(tmp_path: Path) -> None:
    path, n = tmp_path / "a.vectors", 2_000
    rng = np.random.default_rng(1)
    ids, contents = np.arange(1, n + 1), rng.integers(0, 1 << 60, (n, 2)).astype(np.uint64)
    values = rng.standard_normal((n, 500)).astype(np.float32)
    write_vectors(path, {"a": 500}, Vectors(ids, contents, values))
    found = mapped_vectors(path, {"a": 500}, ids, contents)
    assert found is not None
    shown, places = found
    # All of it was looked at, for damage.
    assert held_kb(path) < 400
    assert np.array_equal(shown[places], values)
    assert held_kb(path) > 3_000
    let_go(shown[10:])
    assert held_kb(path) < 400
    assert np.array_equal(shown[places], values)


def test_other_arrays_stay_as_they_are() -> None:
    values = np.frombuffer(bytearray(b"abcdefgh"), np.uint8)
    let_go(values)
    let_go(values[2:])
    assert values.tobytes() == b"abcdefgh"


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="a system without such maps")
def test_memory_that_no_file_stands_behind_is_not_lost() -> None:
    memory = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    values = np.ndarray((1 << 16,), np.uint8, memory)
    memory[:4] = b"kept"
    let_go(values[1:])
    assert values[:4].tobytes() == b"kept"
