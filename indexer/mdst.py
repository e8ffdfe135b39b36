"""Minimum directed spanning trees and forests of sparse directed graphs, in O(E log V).

Edmonds' contraction (Chu & Liu 1965; Edmonds 1967, "Optimum branchings") with mergeable heaps (Tarjan 1977, "Finding
optimum branchings"), grown along one backward path at a time (Gabow, Galil, Spencer & Tarjan 1986, "Efficient
algorithms for finding minimum spanning trees in undirected and directed graphs"). From a node not yet attached, step
to the tail of the cheapest edge that enters it. A step onto the path closes a cycle: contract it into one super-node,
lower every edge that enters the cycle at m by the cost of the edge chosen for m, and go on from there. A step to the
virtual root, or to anything already attached to it, attaches the whole path. Expansion then walks the contractions
backwards: the edge that enters a super-node replaces the chosen edge of the member that it enters.

Two levels of heap. The edges into one node form a binary heap in place, in one compressed array, and a super-node
holds a skew heap of its nodes by the cheapest edge of each. So the pointer structure has V elements and not E, most
steps stay within one short run of memory, and nothing is ever sorted. Offsets are pushed down lazily.

The virtual root's edges never lie on a cycle, so they stay out of the heaps: each super-node carries the one number
that matters, its cheapest root edge. That is also what makes "as few roots as possible" exact. Ordered by the pair
(number of roots, weight), every real edge comes before every root edge, at every level of contraction; a root edge is
taken when no other edge enters. There is no large constant to add, hence no precision to lose to one.

Ties. Among edges that enter the same super-node, the one with the smallest (weight less offset, tail, head) wins, the
virtual root counting as tail -1, and paths start at nodes in increasing order. Edges equal in all three are
interchangeable, so the result is the same, bit for bit, for every order of the edge list.

Rounding. Reduced weights are sums of at most 2 V weights. The answer is exactly optimal when those sums are exact
(integers below 2**53, say), else optimal up to their rounding. The sums must not overflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

__all__ = [
    "dense_minimum_directed_spanning_tree",
    "minimum_directed_spanning_forest",
    "minimum_directed_spanning_tree",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MAX_NODES = 2**30  # nodes and super-nodes together are numbered in int32
_BASE, _OFF, _LAZY = 0, 1, 2  # columns of `val`: cheapest edge left, offset of the node, offset owed to its children


@njit(cache=True, nogil=True)
def _sift(src: NDArray[np.int32], w: Floats, lo: int, end: int, i: int) -> None:
    """Restore the binary heap w[lo:end], ordered by (w, src), below its i-th element. O(log(end - lo))."""
    size = end - lo
    wi, si = w[lo + i], src[lo + i]
    while True:
        c = 2 * i + 1
        if c >= size:
            break
        p = lo + c
        if c + 1 < size and (w[p + 1] < w[p] or (w[p + 1] == w[p] and src[p + 1] < src[p])):
            p += 1
        if wi < w[p] or (wi == w[p] and si <= src[p]):
            break
        w[lo + i], src[lo + i] = w[p], src[p]
        i = p - lo
    w[lo + i], src[lo + i] = wi, si


@njit(cache=True, nogil=True)
def _find(up: NDArray[np.int32], v: int) -> int:
    """The outermost super-node that holds v; halves the path on the way. O(log V) amortised."""
    while up[v] != v:
        up[v] = up[up[v]]
        v = up[v]
    return v


@njit(cache=True, nogil=True)
def _less(a: int, b: int, val: Floats, start: Ints, src: NDArray[np.int32]) -> bool:
    """Whether a's cheapest edge comes before b's, by (weight less offset, tail, head)."""
    x, y = val[a, _BASE] + val[a, _OFF], val[b, _BASE] + val[b, _OFF]
    if x != y:
        return bool(x < y)
    s, t = src[start[a]], src[start[b]]
    return bool(s < t or (s == t and a < b))


@njit(cache=True, nogil=True)
def _push(a: int, kid: NDArray[np.int32], val: Floats) -> None:
    """Hand the offset that a owes to its children down to them. O(1)."""
    d = val[a, _LAZY]
    if d != 0.0:
        for side in range(2):
            c = kid[a, side]
            if c >= 0:
                val[c, _OFF] += d
                val[c, _LAZY] += d
        val[a, _LAZY] = 0.0


@njit(cache=True, nogil=True)
def _meld(a: int, b: int, kid: NDArray[np.int32], val: Floats, start: Ints, src: NDArray[np.int32]) -> int:
    """Root of the union of the skew heaps a and b (-1: empty). O(log V) amortised."""
    if a < 0:
        return b
    if b < 0:
        return a
    if _less(b, a, val, start, src):
        a, b = b, a
    root = a
    while True:
        _push(a, kid, val)
        c = kid[a, 1]
        kid[a, 1] = kid[a, 0]
        if c < 0:
            kid[a, 0] = b
            return root
        if _less(b, c, val, start, src):
            kid[a, 0] = b
            a, b = b, c
        else:
            kid[a, 0] = c
            a = c


@njit(cache=True, nogil=True)
def _solve(n: int, tail: Ints, head: Ints, weight: Floats, root_weight: Floats, fewest: bool) -> Ints:
    """Parents int64[n], -1 for roots; `fewest` minimises (roots, weight), else only the weight. O(E log V), O(E + V)."""
    # Edges by head. One that costs no less than a root edge to its head is never needed (nor is a self loop, nor +inf).
    start = np.zeros(n + 1, np.int64)
    for e in range(len(tail)):
        limit = np.inf if fewest else root_weight[head[e]]
        if tail[e] != head[e] and weight[e] < limit:
            start[head[e] + 1] += 1
    for v in range(n):
        start[v + 1] += start[v]
    end = start[:n].copy()
    src, w = np.empty(start[n], np.int32), np.empty(start[n], np.float64)
    for e in range(len(tail)):
        limit = np.inf if fewest else root_weight[head[e]]
        if tail[e] != head[e] and weight[e] < limit:
            p = end[head[e]]
            src[p], w[p] = tail[e], weight[e]
            end[head[e]] = p + 1

    size = 2 * n  # 0 to n - 1: nodes; from n on: super-nodes, of which there are at most n - 1
    up = np.arange(size).astype(np.int32)  # union-find
    outer = np.full(size, -1, np.int32)  # the super-node that a node or super-node was contracted into
    state = np.zeros(size, np.uint8)  # 0 untouched, 1 on the path, 2 attached
    heap = np.full(size, -1, np.int32)  # skew heap over nodes
    from_, into, cost = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size)  # the chosen edge
    rooted, root_cost = np.empty(size, np.int32), np.empty(size)  # head and reduced weight of the cheapest root edge
    kid, val = np.full((n, 2), -1, np.int32), np.zeros((n, 3))
    for v in range(n):
        rooted[v], root_cost[v] = v, root_weight[v]
        degree = end[v] - start[v]
        if degree > 0:
            for i in range(degree // 2 - 1, -1, -1):
                _sift(src, w, start[v], end[v], i)
            heap[v], val[v, _BASE] = v, w[start[v]]

    path = np.empty(n, np.int32)
    new = n
    for first in range(n):
        c = _find(up, first)
        if state[c] != 0:
            continue
        path[0], state[c] = c, 1
        depth = 1
        while depth > 0:
            c = path[depth - 1]
            h = heap[c]
            while h >= 0 and _find(up, src[start[h]]) == c:  # drop edges that lie inside c
                lo = start[h]
                while end[h] > lo and _find(up, src[lo]) == c:
                    end[h] -= 1
                    src[lo], w[lo] = src[end[h]], w[end[h]]
                    _sift(src, w, lo, end[h], 0)
                _push(h, kid, val)
                left, right = kid[h, 0], kid[h, 1]
                if end[h] == lo:
                    h = _meld(left, right, kid, val, start, src)
                    continue
                val[h, _BASE] = w[lo]
                if (left >= 0 and _less(left, h, val, start, src)) or (
                    right >= 0 and _less(right, h, val, start, src)
                ):
                    kid[h, 0] = kid[h, 1] = -1
                    h = _meld(_meld(left, right, kid, val, start, src), h, kid, val, start, src)
            heap[c] = h

            attached = h < 0 or (not fewest and root_cost[c] <= val[h, _BASE] + val[h, _OFF])
            if attached:
                from_[c], into[c] = -1, rooted[c]
            else:
                from_[c], into[c], cost[c] = src[start[h]], h, val[h, _BASE] + val[h, _OFF]
                t = _find(up, from_[c])
                attached = state[t] == 2
            if attached:
                for i in range(depth):
                    state[path[i]] = 2
                depth = 0
            elif state[t] == 0:
                path[depth], state[t] = t, 1
                depth += 1
            else:  # a cycle: the path from t on
                root_cost[new], rooted[new] = np.inf, n
                m = -1
                while m != t:
                    depth -= 1
                    m = path[depth]
                    up[m] = outer[m] = new
                    if heap[m] >= 0:
                        val[heap[m], _OFF] -= cost[m]
                        val[heap[m], _LAZY] -= cost[m]
                        heap[new] = _meld(heap[new], heap[m], kid, val, start, src)
                    r = root_cost[m] - cost[m]
                    if r < root_cost[new] or (r == root_cost[new] and rooted[m] < rooted[new]):
                        root_cost[new], rooted[new] = r, rooted[m]
                path[depth], state[new] = new, 1
                depth += 1
                new += 1

    for x in range(new - 1, -1, -1):  # expansion, outermost first; state 3: already expanded
        if state[x] != 3:
            y = into[x]
            while y != x:
                from_[y], state[y] = from_[x], 3
                y = outer[y]
    return from_[:n].astype(np.int64)


def _edges(n: int, tail: ArrayLike, head: ArrayLike, weight: ArrayLike) -> tuple[Ints, Ints, Floats]:
    """The edge list as contiguous int64[E], int64[E], float64[E], checked. O(E)."""
    if not 0 <= n <= _MAX_NODES:
        raise ValueError(f"n is {n}; expected between 0 and {_MAX_NODES} nodes")
    w = np.ascontiguousarray(weight, dtype=np.float64)
    ends = []
    for name, given in (("tail", tail), ("head", head)):
        a = np.asarray(given)
        if a.ndim != 1 or a.shape != w.shape:
            raise ValueError(
                f"{name} has shape {a.shape} and weight {w.shape}; expected two flat arrays of one length"
            )
        if a.size and a.dtype.kind not in "iu":
            raise ValueError(f"{name} has dtype {a.dtype}; expected integers")
        if a.size and not (a.min() >= 0 and a.max() < n):
            e = int(np.flatnonzero((a < 0) | (a >= n))[0])
            raise ValueError(f"{name}[{e}] is {a[e]}; expected a node between 0 and {n - 1} (n = {n})")
        ends.append(np.ascontiguousarray(a, dtype=np.int64))
    _check_costs("weight", w)
    return ends[0], ends[1], w


def _check_costs(name: str, costs: Floats) -> None:
    bad = np.isnan(costs) | (costs == -np.inf)
    if bad.any():
        e = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{name}[{e}] is {costs[e]}; expected a number or +inf")


def _spanning(
    n: int, tail: Ints, head: Ints, weight: Floats, root_weight: Floats, root: int | None, fewest: bool
) -> Ints:
    if root is not None:
        if not 0 <= root < n:
            raise ValueError(f"root is {root}; expected a node between 0 and {n - 1} (n = {n})")
        # -inf turns every edge into the root away, so the root never joins a cycle and the -inf enters no sum.
        root_weight, fewest = np.full(n, np.inf), False
        root_weight[root] = -np.inf
    parent: Ints = _solve(n, tail, head, weight, root_weight, fewest)
    if np.any((parent < 0) & (root_weight == np.inf)):
        may = np.flatnonzero(root_weight < np.inf)
        use = weight < np.inf
        rows = np.concatenate([tail[use], np.full(len(may), n)])
        columns = np.concatenate([head[use], may])
        graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(n + 1, n + 1))
        missed = n + 1 - len(breadth_first_order(graph, n, return_predecessors=False))
        source = f"root {root}" if root is not None else f"the {len(may)} nodes of finite root_weight"
        raise ValueError(f"{missed} of {n} nodes cannot be reached from {source}; add edges or roots")
    return parent


def minimum_directed_spanning_forest(
    n: int,
    tail: ArrayLike,
    head: ArrayLike,
    weight: ArrayLike,
    root_weight: ArrayLike,
    *,
    root: int | None = None,
) -> Ints:
    """Parent of every node (int64[n], -1 for roots) in the forest of least total weight.

    tail, head: int[E]; edge e goes from tail[e], the parent, to head[e], at weight[e] (float64[E]). Negative weights
    and parallel edges are fine; self loops and edges of +inf are ignored. root_weight: float64[n] or one number, what
    it costs to leave a node without a parent; +inf: it must have one. An edge that costs no less than
    root_weight[head] is never used. With `root` there is exactly one tree, from that node, whatever root_weight says.

    ValueError: NaN or -inf, an index out of range, shapes that differ, nodes that no permitted root reaches.
    O(E log V) time, O(E + V) memory; 12 bytes an edge beside the input. Ties, rounding: see the module.
    """
    t, h, w = _edges(n, tail, head, weight)
    costs = np.asarray(root_weight, dtype=np.float64)
    if costs.shape not in ((), (n,)):
        raise ValueError(f"root_weight has shape {costs.shape}; expected one number or one for each of {n} nodes")
    costs = np.full(n, costs)
    _check_costs("root_weight", costs)
    return _spanning(n, t, h, w, costs, root, False)


def minimum_directed_spanning_tree(
    n: int, tail: ArrayLike, head: ArrayLike, weight: ArrayLike, *, root: int | None = None
) -> Ints:
    """Parent of every node (int64[n], -1 for roots) in the spanning tree of least weight, from the best root.

    Where no single node reaches all others: the forest of least weight among those with as few roots as possible.
    That order, first the count and then the weight, is exact (see the module). With `root`: the tree from that node, or
    ValueError if it does not reach all. Arguments, other errors and cost as in `minimum_directed_spanning_forest`.
    """
    t, h, w = _edges(n, tail, head, weight)
    return _spanning(n, t, h, w, np.zeros(n), root, True)


def dense_minimum_directed_spanning_tree(M: ArrayLike, *, root: int | None = None) -> Ints:
    """`minimum_directed_spanning_tree` of the matrix M (float64[n, n]): M[i, j] weighs the edge from i to j.

    +inf: no such edge. The diagonal is ignored, but may not hold NaN. O(n^2 log n) time, O(n^2) memory.
    """
    D: NDArray[Any] = np.asarray(M, dtype=np.float64)
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise ValueError(f"M has shape {D.shape}; expected a square matrix")
    tail, head = np.nonzero(D != np.inf)
    return minimum_directed_spanning_tree(len(D), tail, head, D[tail, head], root=root)
