"""All models of an architecture compared with all: by products of floats, and of bytes where the processor has them.

    scripts/bench alike [--models 40000] [--threads 2] [--turns 2] [--family SHARE] [--json]

Search vectors of 1,024 coordinates: half are strangers to all, the rest in families of 2 to 2,000 around a centre of
their own, whose members correlate at .25 to .9. Components must be the same either way. Where search vectors are not
sure of a pair, its likeness decides, in place of sketches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexer import rough
from indexer.components import connect
from indexer.distance import RELATED
from indexer.shortlist import DIMENSIONS, products

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
AT_ONCE = 10_000
LARGE = 0.7
"""How alike two of the family are that is a share of all."""
SIZES = [1000, DIMENSIONS - 1000]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench alike", description=__doc__)
    parser.add_argument("--models", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--family", type=float, default=0.0, help="share of all that is one family more")
    parser.add_argument("--turns", type=int, default=2, help="the best of so many")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args(arguments)
    vectors = _families(options.models, options.family)
    with threadpool_limits(options.threads, "blas"):
        # What is compiled when it is first called, and torch's import, are no part of it.
        for many in (sys.maxsize, 0):
            _timed(vectors[:2_000], many)
        # In turn, for what else the machine does is not the same from one minute to the next.
        turns = [(_timed(vectors, sys.maxsize), _timed(vectors, 0)) for _ in range(options.turns)]
    floats_s, bytes_s = (min(turn[way][1] for turn in turns) for way in (0, 1))
    by_floats, by_bytes = (turns[0][way][0] for way in (0, 1))
    with patch.object(rough, "MANY", 0), rough.rough(vectors[:1], np.arange(1), 1) as way:
        in_bytes = way.threads is not None
    pairs = options.models * (options.models - 1) / 2
    found = {
        "models": options.models,
        "threads": options.threads,
        "components": int(by_floats.max()) + 1,
        "same": bool((by_floats == by_bytes).all()),
        "bytes_taken": in_bytes,
        "floats_pairs_s": round(pairs / floats_s),
        "bytes_pairs_s": round(pairs / bytes_s),
        "ratio": round(floats_s / bytes_s, 2),
    }
    if not options.json:
        for name, seconds in (("floats", floats_s), ("bytes", bytes_s)):
            print(f"{name:<7}{seconds:>9.2f} s {pairs / seconds / 1e6:>9.1f} million pairs a second")
    print(json.dumps(found))
    return 0 if found["same"] else 1


def _timed(vectors: Vectors, many: int) -> tuple[Ints, float]:
    def related(a: Ints, b: Ints) -> NDArray[np.bool_]:
        return products(vectors, a, b) >= RELATED

    with patch.object(rough, "MANY", many):
        started = time.perf_counter()
        labels = connect(vectors, related, SIZES)
    return labels, time.perf_counter() - started


def _families(n: int, share: float) -> Vectors:
    rng = np.random.default_rng(0)
    vectors = np.empty((n, DIMENSIONS), np.float32)
    large = int(share * n)
    first = large + (n - large) // 2
    _fill(rng, vectors)
    _bring_together(rng, vectors[:large], LARGE)
    while first < n:
        members = vectors[first : first + int(2 * 1000 ** rng.random())]
        _bring_together(rng, members, rng.uniform(0.25, 0.9))
        first += len(members)
    rng.shuffle(vectors)
    return vectors


def _bring_together(rng: np.random.Generator, members: Vectors, likeness: float) -> None:
    centre = rng.standard_normal(DIMENSIONS, np.float32)
    members *= np.float32(np.sqrt(1 - likeness))
    members += np.float32(np.sqrt(likeness)) * centre / np.linalg.norm(centre)
    members /= np.linalg.norm(members, axis=1, keepdims=True)


def _fill(rng: np.random.Generator, vectors: Vectors) -> None:
    for at in range(0, len(vectors), AT_ONCE):
        some = vectors[at : at + AT_ONCE]
        some[:] = rng.standard_normal(some.shape, np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
