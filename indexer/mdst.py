"""Minimum directed spanning trees and forests of sparse directed graphs, in O(E log V).

Contraction of cycles (Chu and Liu 1965; Edmonds 1967) with mergeable heaps (Tarjan 1977), grown along one
path at a time (Gabow, Galil, Spencer and Tarjan 1986). From a node not yet attached, step to the tail of the
cheapest edge into it. A step onto the path closes a cycle: contract it into a super-node, lower the edges
that enter it at member m by the cost of m's chosen edge, and go on from there. A step to the virtual root, or
to what is attached to it, attaches the path. Last, from the outside in, the edge into a super-node replaces
that of the member it enters.

Heaps on two levels: the edges into one node are a binary heap in place, in one compressed array; a super-node
is a skew heap of its nodes, by the cheapest edge of each, with lazy offsets. Only V elements have pointers,
and nothing is ever sorted. The virtual root's edges lie on no cycle and stay out of the heaps; a super-node
keeps its cheapest. That makes "as few roots as possible" exact too: ordered by (roots, weight), every real
edge precedes every root edge at every level, so a root edge is taken only when no other enters.

Ties: of the edges into a super-node, the smallest by (weight less offset, tail, head) wins, the virtual root
counting as tail -1; paths start at nodes in increasing order. Edges equal in all three are interchangeable,
so the result is the same, exactly, for every order of the edge list.

Rounding: reduced weights are sums of fewer than 2 V weights. The answer is exactly optimal where such sums
are exact (integers below 2**53, say), else optimal up to their rounding. They must not overflow.
"""

from __future__ import annotations

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
_BASE, _OFF, _LAZY = 0, 1, 2  # columns of `val`: cheapest edge left, offset, offset owed to the children


@njit(cache=True, nogil=True)
def _sift(src: NDArray[np.int32], w: Floats, lo: int, end: int, i: int) -> None:
    """Restore the binary heap w[lo:end], ordered by (w, src), below its i-th element. O(log(end - lo))."""
    size = end - lo
    wi, si = w[lo + i], src[lo + i]
    while 2 * i + 1 < size:
        c = 2 * i + 1
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
    """Parents int64[n] of least (number of roots, weight) if `fewest`, else of least weight. O(E log V)."""
    # Edges by head. One that costs no less than the root edge to its head is never needed. (A self loop lies
    # inside its node, and goes when it comes up.)
    limit = np.full(n, np.inf) if fewest else root_weight
    start = np.zeros(n + 1, np.int64)
    for e in range(len(tail)):
        if weight[e] < limit[head[e]]:
            start[head[e] + 1] += 1
    start = np.cumsum(start)
    end = start[:n].copy()
    src, w = np.empty(start[n], np.int32), np.empty(start[n], np.float64)
    for e in range(len(tail)):
        if weight[e] < limit[head[e]]:
            p = end[head[e]]
            src[p], w[p] = tail[e], weight[e]
            end[head[e]] = p + 1

    size = 2 * n  # 0 to n - 1: nodes; from n on: super-nodes, of which there are at most n - 1
    up = np.arange(size).astype(np.int32)  # union-find
    outer = np.full(size, -1, np.int32)  # the super-node that a node or super-node was contracted into
    state = np.zeros(size, np.uint8)  # 0 untouched, 1 on the path, 2 attached
    heap = np.full(size, -1, np.int32)  # skew heap over nodes
    from_, into, cost = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size)  # the chosen edge
    rooted, root_cost = np.empty(size, np.int32), np.empty(size)  # the cheapest root edge: head, weight
    kid, val = np.full((n, 2), -1, np.int32), np.zeros((n, 3))
    for v in range(n):
        rooted[v], root_cost[v] = v, root_weight[v]
        for i in range((end[v] - start[v]) // 2 - 1, -1, -1):
            _sift(src, w, start[v], end[v], i)
        if end[v] > start[v]:
            heap[v], val[v, _BASE] = v, w[start[v]]

    path = np.empty(n, np.int32)
    new = n
    for first in range(n):
        c = _find(up, first)
        if state[c] != 0:
            continue
        path[0], state[c], depth = c, 1, 1
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
                rest = _meld(kid[h, 0], kid[h, 1], kid, val, start, src)
                if end[h] > lo:
                    kid[h, 0], kid[h, 1], val[h, _BASE] = -1, -1, w[lo]
                    rest = _meld(rest, h, kid, val, start, src)
                h = rest
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
                depth, new = depth + 1, new + 1

    for x in range(new - 1, -1, -1):  # expansion, outermost first; state 3: already expanded
        if state[x] != 3:
            y = into[x]
            while y != x:
                from_[y], state[y] = from_[x], 3
                y = outer[y]
    return from_[:n].astype(np.int64)


def _spanning(n: int, edges: tuple[ArrayLike, ...], costs: Floats, root: int | None, fewest: bool) -> Ints:
    if not 0 <= n <= _MAX_NODES:
        raise ValueError(f"n is {n}; expected between 0 and {_MAX_NODES} nodes")
    tail, head, weight = (np.asarray(a) for a in edges)
    if weight.ndim != 1 or not tail.shape == head.shape == weight.shape:
        shapes = f"{tail.shape}, {head.shape}, {weight.shape}"
        raise ValueError(f"tail, head, weight have shapes {shapes}; expected flat arrays of one length")
    for name, ends in (("tail", tail), ("head", head)):
        if ends.size and ends.dtype.kind not in "iu":
            raise ValueError(f"{name} has dtype {ends.dtype}; expected integers")
        if ends.size and (ends.min() < 0 or ends.max() >= n):
            e = np.flatnonzero((ends < 0) | (ends >= n))[0]
            raise ValueError(f"{name}[{e}] is {ends[e]}; expected a node, from 0 to {n - 1}")
    if costs.shape not in ((), (n,)):
        raise ValueError(f"root_weight has shape {costs.shape}; expected one number, or {n}")
    if root is not None and not 0 <= root < n:
        raise ValueError(f"root is {root}; expected a node, from 0 to {n - 1}")
    # Contiguous, aligned and writable (copied if need be), so that numba compiles for one set of types only.
    tail, head = (np.require(a, np.int64, ["C", "A", "W"]) for a in (tail, head))
    weight, costs = np.require(weight, np.float64, ["C", "A", "W"]), np.full(n, costs)
    for name, values in (("weight", weight), ("root_weight", costs)):
        bad = np.flatnonzero(np.isnan(values) | (values == -np.inf))
        if len(bad):
            raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]}; expected a number or +inf")
    if root is not None:
        # -inf turns away every edge into the root; so it joins no cycle, and its -inf enters no sum.
        costs, fewest = np.full(n, np.inf), False
        costs[root] = -np.inf
    parent: Ints = _solve(int(n), tail, head, weight, costs, fewest)
    if np.any((parent < 0) & (costs == np.inf)):
        may, real = np.flatnonzero(costs < np.inf), weight < np.inf
        rows, columns = np.append(tail[real], np.full(len(may), n)), np.append(head[real], may)
        graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(n + 1, n + 1))
        missed = n + 1 - len(breadth_first_order(graph, n, return_predecessors=False))
        source = f"any of the {len(may)} permitted roots" if root is None else f"root {root}"
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
    """Parent of every node (int64[n], -1 for roots) in the forest of least weight, its root_weights included.

    tail, head: int[E], edge e goes from parent tail[e] to child head[e]. weight: float64[E]; negative weights
    and parallel edges are fine, self loops and edges of +inf are ignored. root_weight: float64[n] or one
    number, what a node without parent costs; +inf: it must have one. An edge of weight >= root_weight[head]
    is never used. With `root` there is one tree, from that node, whatever root_weight says.

    ValueError: NaN or -inf, an index out of range, shapes that differ, nodes that no permitted root reaches.
    Time O(E log V), memory O(E + V). Ties and rounding: see the module.
    """
    return _spanning(n, (tail, head, weight), np.asarray(root_weight, dtype=np.float64), root, False)


def minimum_directed_spanning_tree(
    n: int, tail: ArrayLike, head: ArrayLike, weight: ArrayLike, *, root: int | None = None
) -> Ints:
    """Parent of every node (int64[n], -1 for roots) in the spanning tree of least weight, from the best root.

    Where no node reaches all others: the forest of least weight among those of fewest roots. That order,
    roots before weight, is exact (see the module). With `root`: the tree from that node, or ValueError if it
    does not reach all. Arguments, other errors, time, memory: as for `minimum_directed_spanning_forest`.
    """
    return _spanning(n, (tail, head, weight), np.zeros(()), root, True)


def dense_minimum_directed_spanning_tree(M: ArrayLike, *, root: int | None = None) -> Ints:
    """`minimum_directed_spanning_tree` of float64[n, n]: M[i, j] is the weight of i -> j, +inf for no edge.

    The diagonal counts as self loops: ignored, but not NaN. Time O(n^2 log n), memory O(n^2).
    """
    D: Floats = np.asarray(M, dtype=np.float64)
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise ValueError(f"M has shape {D.shape}; expected a square matrix")
    tail, head = np.nonzero(~np.isposinf(D))
    return minimum_directed_spanning_tree(len(D), tail, head, D[tail, head], root=root)
