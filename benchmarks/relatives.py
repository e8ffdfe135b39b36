"""All models of an architecture compared with one another, as a first build does, against FAISS's flat index.

    scripts/bench relatives [--models 20000] [--json]

Search vectors of 1,024 coordinates: a quarter of the models are alone, the others come in families of 40 whose members
correlate at about .9. `faiss_s` is the 65 nearest of each by an exact flat index, which is what a search for relatives
took before; `all_s` is `indexer.components.connect`. One core. `asked` are the pairs that search vectors do not settle,
whose sketches would have to be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexer.components import connect

DIMENSIONS = 1024
FAMILY = 40
NEAREST = 65


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench relatives", description=__doc__)
    parser.add_argument("--models", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args(arguments)
    with threadpool_limits(1):
        told = measure(options.models)
    if not options.json:
        print(f"{'models':>9} {'all, s':>8} {'faiss, s':>9} {'ratio':>6} {'pairs a second':>15} {'asked':>7}")
        print(
            f"{told['models']:>9,} {told['all_s']:>8.2f} {told['faiss_s']:>9.2f} {told['ratio']:>6.2f} "
            f"{told['pairs_per_s']:>15,} {told['asked']:>7,}"
        )
    print(json.dumps(told))
    return 0


def measure(n: int) -> dict[str, float]:
    """All fields of the last line."""
    vectors, family = _models(n)
    asked = 0

    def related(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        nonlocal asked
        asked += a.size
        return np.asarray(family[a] == family[b])

    # What is compiled when it is first called is no part of it.
    connect(vectors[:100], lambda a, b: np.asarray(family[a] == family[b]), [DIMENSIONS])
    started = time.perf_counter()
    labels = connect(vectors, related, [DIMENSIONS])
    all_s = time.perf_counter() - started
    if len(set(zip(labels.tolist(), family.tolist(), strict=True))) != len(set(family.tolist())):
        raise AssertionError("the components are not the families")
    started = time.perf_counter()
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(vectors)
    index.search(vectors, min(NEAREST, n))
    faiss_s = time.perf_counter() - started
    return {
        "models": n,
        "all_s": round(all_s, 3),
        "faiss_s": round(faiss_s, 3),
        "ratio": round(all_s / faiss_s, 3),
        "pairs_per_s": round(n * (n - 1) / 2 / all_s),
        "asked": asked,
    }


def _models(n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(vectors of length 1, the number of each model's family)."""
    rng = np.random.default_rng(0)
    alone = np.arange(n) < n // 4
    family = np.where(alone, np.arange(n), n + np.arange(n) // FAMILY)
    _, place = np.unique(family, return_inverse=True)
    centres = rng.standard_normal((int(place.max()) + 1, DIMENSIONS)).astype(np.float32)
    vectors = centres[place] + 0.33 * rng.standard_normal((n, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(n)
    return np.ascontiguousarray(vectors[order]), family[order].astype(np.int64)


if __name__ == "__main__":
    sys.exit(main())
