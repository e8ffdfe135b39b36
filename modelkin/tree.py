"""A Model Tree in one flat sequence, root first: deep trees cost no recursion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Placed", "Tree", "TreeNode", "build_tree"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A model with its edge, before its tree is drawn up."""

    model_id: int
    parent_id: int | None
    model: str
    relation: str | None
    distance: float | None
    confidence: float | None
    inferred: bool = False
    merge_parents: Sequence[Mapping[str, Any]] = ()
    """Of a merge, each with its name as `parent` and its `coefficient`."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A model in its tree, with the edge to its parent; relation, distance and confidence are None at the root."""

    model: str
    parent: str | None
    depth: int
    relation: str | None
    distance: float | None
    confidence: float | None
    children: int
    descendants: int
    """Nodes below, inferred ones included."""
    inferred: bool = False
    """No model of the graph, but an ancestor that distances between models tell of."""
    merged_with: tuple[str, ...] = ()
    """The other parents of a merge."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A Model Tree. `nodes` is in pre-order: a node's descendants follow it at once, its `descendants` in number.

    Children are ordered by how many descendants they have, most first, then by name.
    """

    root: str
    asked: str | None
    """The model that the tree was asked for by; None when by none."""
    nodes: tuple[TreeNode, ...]

    def __len__(self) -> int:
        """Models; inferred ancestors are not counted."""
        return sum(not node.inferred for node in self.nodes)

    def children(self, at: int) -> list[int]:
        """Positions in `nodes` of the children of the node at position `at`."""
        found = []
        child, end = at + 1, at + self.nodes[at].descendants
        while child <= end:
            found.append(child)
            child += self.nodes[child].descendants + 1
        return found

    def __str__(self) -> str:
        from modelkin.drawing import tree_lines

        return "\n".join(tree_lines(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from modelkin.html import preformatted

        return preformatted(str(self))


def build_tree(rows: Iterable[Placed], asked: int | None = None) -> Tree:
    """The tree of these models, exactly one of which has no parent among them. `asked` is a model id."""
    placed = {row.model_id: row for row in rows}
    children: dict[int | None, list[int]] = defaultdict(list)
    for row in placed.values():
        children[row.parent_id if row.parent_id in placed else None].append(row.model_id)
    (root,) = children[None]
    order = _parents_first(root, children)
    descendants = dict.fromkeys(placed, 0)
    for model_id in reversed(order):
        parent = placed[model_id].parent_id
        if model_id != root and parent is not None:
            descendants[parent] += descendants[model_id] + 1
    nodes = []
    waiting = [(root, 0)]
    while waiting:
        model_id, depth = waiting.pop()
        row = placed[model_id]
        below = sorted(
            children[model_id], key=lambda each: (-descendants[each], placed[each].model, each), reverse=True
        )
        waiting += [(each, depth + 1) for each in below]
        above = placed[row.parent_id].model if depth and row.parent_id is not None else None
        nodes.append(
            TreeNode(
                row.model,
                above,
                depth,
                row.relation if depth else None,
                row.distance if depth else None,
                row.confidence if depth else None,
                len(below),
                descendants[model_id],
                row.inferred,
                tuple(each["parent"] for each in row.merge_parents if each["parent"] != above) if depth else (),
            )
        )
    return Tree(nodes[0].model, placed[asked].model if asked in placed else None, tuple(nodes))


def _parents_first(root: int, children: dict[int | None, list[int]]) -> list[int]:
    order = [root]
    for model_id in order:
        order += children[model_id]
    return order
