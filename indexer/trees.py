"""Model Trees of components that were solved: which had to be, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from indexer.parts import Known, Placed
from indexer.solve import Component

__all__ = ["Solved", "changed", "model_trees", "reasons"]

Solved = tuple[list[int], Component]
"""Members by name, and what was found."""


def changed(parts: Iterable[list[int]], known: Known, placed: Placed) -> list[list[int]]:
    """The components whose set of members is another one than what is stored, or of which other things are known."""
    stored = Counter(known.roots.tolist())
    touched = {0, *placed.stale, *placed.gone.values()}
    result = []
    for part in parts:
        roots = set(known.roots[np.searchsorted(known.ids, part)].tolist())
        if len(roots) > 1 or roots & touched or stored[min(roots)] != len(part):
            result.append(part)
    return result


def reasons(
    known: Known, placed: Placed, found: Iterable[Solved], everything: bool
) -> Iterator[tuple[int, int, int, int, str]]:
    """(root, members, arrived, gone, reason) of each tree that was solved again."""
    lost = Counter(placed.gone.values())
    for members, above in (tree for part, component in found for tree in model_trees(part, component)):
        roots = known.roots[np.searchsorted(known.ids, members)]
        arrived, gone = int((roots == 0).sum()), sum(lost[root] for root in set(roots.tolist()))
        said = [word for word, count in (("arrived", arrived), ("gone", gone)) if count] or ["dates"]
        root = members[0]
        while root in above:
            root = above[root]
        yield root, len(members), arrived, gone, "settings" if everything else " and ".join(said)


def model_trees(ids: list[int], component: Component) -> list[tuple[list[int], dict[int, int]]]:
    """Model Trees of a component: one in default mode, as many as there are roots in paper mode."""
    parent = component.parents()
    members: dict[int, list[int]] = defaultdict(list)
    above: dict[int, dict[int, int]] = defaultdict(dict)
    for i in [*ids, *(node.inferred_id for node in component.inferred)]:
        root = i
        while root in parent:
            root = parent[root]
        if i in parent:
            above[root][i] = parent[i]
        if i > 0:
            members[root].append(i)
    return [(rows, above[root]) for root, rows in members.items()]
