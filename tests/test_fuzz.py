"""scripts/fuzz: its seeds are good files, and a few damaged ones of each are read or skipped."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.fuzz import PARSERS, damaged, examine
from scripts.fuzz_seeds import seeds_of


@pytest.mark.parametrize("kind", PARSERS)
def test_damaged_files_are_read_or_skipped(kind: str) -> None:
    seeds = seeds_of(kind)
    assert all(examine(kind, raw)[0] == "read" for raw in seeds)
    random = np.random.default_rng(0)
    outcomes = {
        examine(kind, damaged(seeds[at % len(seeds)], seeds[at * 7 % len(seeds)], random))[0] for at in range(150)
    }
    assert len(outcomes) > 1 or kind == "card"
