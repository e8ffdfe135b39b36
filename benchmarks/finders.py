"""The first search in a large component: comparing with all vectors, and looking into FAISS's inverted lists.

    scripts/bench finders [--vectors 20000,60000] [--json]

Vectors of 1,024 coordinates grow as a Model Tree does: each is one of the 4,000 before it plus a step of its own. 2,560
rows ask for their 48 nearest, and for the 32 nearest of their possible parents. `recall` is what lists find of all,
`looked_at` the share of all vectors that is in the lists which a row looks into.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from indexer.finders import Bounds, Finder, Flat, Ints, Inverted, Vectors

DIMENSIONS = 1024
ASKED = 2_560
BLOCK = 256


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench finders", description=__doc__)
    parser.add_argument("--vectors", default="20000,60000", help="how many, separated by commas")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args(arguments)
    told = []
    with threadpool_limits(1):
        for n in map(int, options.vectors.split(",")):
            told += _measured(n)
    if not options.json:
        heads = f"{'all, s':>8} {'lists, s':>9} {'ratio':>6} {'recall':>7} {'looked at':>9}"
        print(f"{'vectors':>9} {'asked for':<18} {heads}")
        for row in told:
            asked = "possible parents" if row["bounded"] else "nearest"
            print(
                f"{row['vectors']:>9,} {asked:<18} {row['all_s']:>8.2f} {row['lists_s']:>9.2f} "
                f"{row['lists_s'] / row['all_s']:>6.2f} {row['recall']:>7.4f} {row['looked_at']:>9.3f}"
            )
    print(json.dumps({"finders": told}))
    return 0


def _measured(n: int) -> list[dict[str, float]]:
    vectors = _tree(n)
    reach = np.einsum("nd,nd->n", vectors, vectors).astype(np.float64)
    flat, inverted = Flat(vectors), Inverted(vectors)
    result = []
    for bounds, k in ((None, 48), (Bounds(reach, 0), 32)):
        true, all_s = _timed(flat, n, k, bounds)
        found, lists_s = _timed(inverted, n, k, bounds)
        hit = sum(np.intersect1d(f[f >= 0], t[t >= 0]).size for f, t in zip(found, true, strict=True))
        result.append(
            {
                "vectors": n,
                "bounded": bounds is not None,
                "all_s": round(all_s, 3),
                "lists_s": round(lists_s, 3),
                "looked_at": round(inverted.looked_at(np.linspace(0, n - 1, min(n, ASKED)).astype(np.int64)), 4),
                "recall": round(hit / max(1, int((true >= 0).sum())), 5),
            }
        )
    return result


def _timed(finder: Finder, n: int, k: int, bounds: Bounds | None) -> tuple[Ints, float]:
    rows = np.linspace(0, n - 1, min(n, ASKED)).astype(np.int64)
    # What is compiled when it is first called is no part of it.
    finder.nearest(rows[:1], k, bounds)
    started = time.perf_counter()
    found = [finder.nearest(rows[at : at + BLOCK], k, bounds)[0] for at in range(0, len(rows), BLOCK)]
    return np.vstack(found), time.perf_counter() - started


def _tree(n: int) -> Vectors:
    rng = np.random.default_rng(0)
    vectors = np.zeros((n, DIMENSIONS), np.float32)
    for i in range(1, n):
        step = rng.uniform(0.5, 2.0) * rng.standard_normal(DIMENSIONS) / np.sqrt(DIMENSIONS)
        vectors[i] = vectors[rng.integers(max(0, i - 4_000), i)] + step
    return vectors


if __name__ == "__main__":
    sys.exit(main())
