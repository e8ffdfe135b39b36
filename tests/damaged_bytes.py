"""Files cut off and changed at random: what reads them gives tensors, or says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from store.errors import SkipError
from tests.entry_arrays import entries_of

__all__ = ["survive"]


def survive(path: Path, kind: str, times: int = 260) -> None:
    """Read a file with one bit changed, or its end cut off, so many times."""
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for step in range(times):
        raw = bytearray(whole)
        if step % 5:
            raw[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        else:
            del raw[random.integers(len(whole)) :]
        path.write_bytes(raw)
        try:
            assert isinstance(entries_of(path, kind).arrays, dict)
        except SkipError:
            continue
