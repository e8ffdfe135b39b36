"""Minimum directed spanning trees: how much faster than networkx, and how far up they scale.

    scripts/bench mdst [--nodes N] [--edges M] [--json]

Graphs are as a shortlist of relatives makes them: a random forest's edges and random others, each in both directions
with nearly the same weight, so that cycles nest deeply. `uniform` graphs (independent edges, independent weights) stand
beside them; `seconds` and `peak_mb` are those of the slower and of the larger kind. Each size runs in a process of its
own, whose peak memory is given, the graph's own arrays included.
networkx solves the same graph in the same run, at the size where it takes some seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from benchmarks.scale.memory import in_own_process, resident_mb
from indexer.mdst import minimum_directed_spanning_tree

_NETWORKX_NODES: Final = 150
_NETWORKX_EDGES: Final = 3_000
_SIZES: Final = ((10_000, 100_000), (100_000, 1_000_000), (1_000_000, 10_000_000))
_KINDS: Final = ("shortlist", "uniform")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench mdst", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with networkx")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.nodes < 2 or options.edges < 2 * options.nodes:
        parser.error("expected at least 2 nodes, and twice as many edges as nodes")

    ratio, theirs = _against_networkx(options.rounds)
    wanted = (options.nodes, options.edges)
    rows = []
    for nodes, edges in (*(size for size in _SIZES if size[1] < options.edges), wanted):
        for kind in _KINDS:
            print(f"{kind}: {nodes:,} nodes, {edges:,} edges", file=sys.stderr, flush=True)
            (seconds, graph_mb), peak = in_own_process(_timed, kind, nodes, edges)
            rows.append((kind, nodes, edges, seconds, graph_mb, peak))
    largest = {kind: (seconds, peak) for kind, *_, seconds, _, peak in rows[-len(_KINDS) :]}
    result = {
        "nodes": options.nodes,
        "edges": options.edges,
        "seconds": round(max(seconds for seconds, _ in largest.values()), 2),
        "peak_mb": round(max(peak for _, peak in largest.values())),
        "networkx_ratio": round(ratio),
    }
    if not options.json:
        print(f"networkx: {_NETWORKX_NODES} nodes, {_NETWORKX_EDGES:,} edges: {theirs:.2f} s, {ratio:,.0f} x ours")
        print(f"{'graph':<10} {'nodes':>9} {'edges':>10} {'seconds':>8} {'before, MB':>10} {'peak, MB':>8}")
        for kind, nodes, edges, seconds, graph_mb, peak in rows:
            print(f"{kind:<10} {nodes:>9,} {edges:>10,} {seconds:>8.2f} {graph_mb:>10.0f} {peak:>8.0f}")
    print(json.dumps(result))
    return 0


def make_graph(kind: str, nodes: int, edges: int, seed: int = 0) -> tuple[Ints, Ints, Floats]:
    """Tails int64[E], heads int64[E], weights float64[E] of a graph in which node 0 reaches all."""
    rng = np.random.default_rng(seed)
    child = np.arange(1, nodes)
    parent = (rng.random(nodes - 1) * child).astype(np.int64)
    if kind == "uniform":
        more = edges - len(child)
        tail = np.append(parent, rng.integers(0, nodes, more))
        head = np.append(child, rng.integers(0, nodes, more))
        weight = rng.random(edges)
    else:
        more = edges // 2 - len(child)
        u, v = np.append(parent, rng.integers(0, nodes, more)), np.append(child, rng.integers(0, nodes, more))
        # Relatives that the forest does not join are farther apart; the two directions of a pair differ by little.
        near = rng.lognormal(0.0, 1.0, edges // 2) * np.where(np.arange(edges // 2) < len(child), 1.0, 2.0)
        tail, head = np.append(u, v), np.append(v, u)
        weight = np.append(near, near * (1 + 0.01 * rng.standard_normal(edges // 2)))
    order = rng.permutation(len(tail))
    return tail[order], head[order], weight[order]


def _timed(kind: str, nodes: int, edges: int) -> tuple[float, float]:
    """Seconds for one tree, and resident MB before it (the graph is in memory, the kernel compiled)."""
    minimum_directed_spanning_tree(3, [0, 1], [1, 2], [1.0, 1.0])
    tail, head, weight = make_graph(kind, nodes, edges)
    before = resident_mb()
    begun = time.perf_counter()
    parent = minimum_directed_spanning_tree(nodes, tail, head, weight)
    seconds = time.perf_counter() - begun
    if np.count_nonzero(parent < 0) != 1:
        raise AssertionError(f"expected one root, found {np.count_nonzero(parent < 0)}")
    return seconds, before


def _against_networkx(rounds: int) -> tuple[float, float]:
    """Median ratio of networkx's time to ours, and its median seconds; both must find the same weight."""
    tail, head, weight = make_graph("shortlist", _NETWORKX_NODES, _NETWORKX_EDGES)
    cheapest: dict[tuple[int, int], float] = {}
    for u, v, w in zip(tail.tolist(), head.tolist(), weight.tolist(), strict=True):
        if u != v:
            cheapest[u, v] = min(w, cheapest.get((u, v), np.inf))
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_weighted_edges_from((u, v, w) for (u, v), w in cheapest.items())
    minimum_directed_spanning_tree(3, [0, 1], [1, 2], [1.0, 1.0])
    ratios, seconds = [], []
    for at in range(rounds):
        print(f"networkx, round {at + 1} of {rounds}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        theirs = nx.minimum_spanning_arborescence(graph)
        seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        parent = minimum_directed_spanning_tree(_NETWORKX_NODES, tail, head, weight)
        ratios.append(seconds[-1] / (time.perf_counter() - begun))
        ours = sum(cheapest[int(parent[v]), v] for v in range(_NETWORKX_NODES) if parent[v] >= 0)
        if not np.isclose(ours, theirs.size(weight="weight")):
            raise AssertionError(f"networkx's tree weighs {theirs.size(weight='weight')}, ours {ours}")
    return statistics.median(ratios), statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
