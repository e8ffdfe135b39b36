"""The graph as a networkx graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelkin.rows import Edge, ModelRow, attributes_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["to_networkx"]


def to_networkx(models: Iterable[ModelRow], edges: Iterable[Edge]) -> nx.DiGraph[str]:
    """A directed graph, parent -> child, with all columns as attributes of nodes and edges."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    for row in models:
        graph.add_node(row.name, **attributes_of(row, without=("name", "parent")))
    for edge in edges:
        graph.add_nodes_from({edge.parent, edge.child} - graph.nodes, inferred=True)
        graph.add_edge(edge.parent, edge.child, **attributes_of(edge, without=("parent", "child")))
    return graph
