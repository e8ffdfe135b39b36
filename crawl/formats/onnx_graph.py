"""An ONNX file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) as its nodes and where its initialisers lie.

A node `Constant` gives a tensor as an initialiser does: paddle2onnx writes all weights so. Branches and bodies of loops
are graphs of their own, with weights of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crawl.formats.protobuf import Field, Walk
from crawl.formats.range_stream import RangeStream
from crawl.source import RangeReader
from store.errors import SkipError

__all__ = ["DTYPES_OF", "Graph", "Initializer", "Node", "read_graph"]

MAX_NODES: Final = 200_000
MAX_INITIALIZERS: Final = 200_000
MAX_DEPTH: Final = 16
"""Branches within branches."""
MAX_HELD: Final = 1 << 16
"""Bytes of values that are written as numbers, of one initialiser; weights are written as bytes."""

DTYPES_OF: Final[Mapping[int, str]] = {
    **{1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64"},
    **{12: "U32", 13: "U64", 16: "BF16", 17: "F8_E4M3", 19: "F8_E5M2"},
}
_RAW, _FLOATS, _DOUBLES, _INTS, _LONGS = 9, 4, 10, 5, 7


@dataclass(slots=True)
class Initializer:
    """A named tensor: its bytes from `start` on, or `numbers`, or in another file as `external` says."""

    name: str = ""
    kind: int = 0
    shape: list[int] = field(default_factory=list)
    start: int = 0
    length: int = 0
    numbers: list[int] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)
    constant: bool = False
    """Is it what a node gives?"""


@dataclass(slots=True)
class Node:
    """One operation; `ints` are its attributes that are numbers."""

    operation: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    ints: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Graph:
    """Nodes in order, initialisers by name."""

    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, Initializer] = field(default_factory=dict)


def read_graph(reader: RangeReader) -> Graph:
    """The graph of a model, its data unread.

    Raises SkipError: "empty_file", "lfs_pointer", "truncated", "bad_header" when it is no ONNX, "too_large".
    """
    if reader.size == 0:
        raise SkipError("empty_file", f"{reader.path} is empty: expected an ONNX file, found 0 bytes")
    stream = RangeStream(reader, reader.size, piece=4096)
    if stream.read(8) == b"version ":
        raise SkipError(
            "lfs_pointer", f"{reader.path} is a Git LFS pointer and not the weights: run `git lfs pull` there"
        )
    walk = Walk(stream, reader.path)
    graph = Graph()
    waiting = [(part, 0) for part in walk.fields(0, reader.size) if part.number == 7 and part.length]
    for message, depth in waiting:
        if depth > MAX_DEPTH:
            raise SkipError("too_large", f"{reader.path}: expected at most {MAX_DEPTH} graphs within one another")
        waiting += [(part, depth + 1) for part in _read_parts(walk, message, graph, within=depth > 0)]
    if not graph.nodes and not graph.initializers:
        raise SkipError("bad_header", f"{reader.path}: expected an ONNX model, found no graph in it")
    return graph


def _read_parts(walk: Walk, graph_field: Field, graph: Graph, within: bool) -> list[Field]:
    """Adds the nodes and initialisers of one graph, which may be `within` another; the graphs within it."""
    inner: list[Field] = []
    for part in walk.fields(graph_field.start, graph_field.start + graph_field.length):
        if part.number == 1 and part.length:
            node, value, graphs = _node(walk, part)
            inner += graphs
            if value is None:
                graph.nodes.append(node)
            elif node.outputs:
                value.name, value.constant = node.outputs[0], True
                graph.initializers.setdefault(value.name, value)
        elif part.number == 5 and part.length:
            found = _initializer(walk, part)
            # Two branches may each have a tensor of one name: neither of them knows the other's.
            if graph.initializers.setdefault(found.name, found) is not found and not within:
                raise SkipError("bad_header", f"{walk.shown}: expected initialisers of different names")
        if len(graph.nodes) > MAX_NODES or len(graph.initializers) > MAX_INITIALIZERS:
            raise SkipError("too_large", f"{walk.shown}: expected at most {MAX_NODES} nodes")
    return inner


def _node(walk: Walk, message: Field) -> tuple[Node, Initializer | None, list[Field]]:
    """A node; what it gives, if it is a constant; graphs that it holds."""
    node, value, graphs = Node(), None, []
    for part in walk.fields(message.start, message.start + message.length):
        if part.number == 1:
            node.inputs.append(walk.text(part))
        elif part.number == 2:
            node.outputs.append(walk.text(part))
        elif part.number == 3:
            node.name = walk.text(part)
        elif part.number == 4:
            node.operation = walk.text(part)
        elif part.number == 5:
            told = _attribute(walk, part)
            if told.ints:
                node.ints[told.name] = told.ints
            if told.name == "value" and told.tensor is not None:
                value = told.tensor
            graphs += told.graphs
    constant = _initializer(walk, value) if value is not None and node.operation == "Constant" else None
    return node, constant, graphs


@dataclass(slots=True)
class _Attribute:
    name: str = ""
    ints: list[int] = field(default_factory=list)
    tensor: Field | None = None
    graphs: list[Field] = field(default_factory=list)


def _attribute(walk: Walk, message: Field) -> _Attribute:
    told = _Attribute()
    for part in walk.fields(message.start, message.start + message.length):
        if part.number == 1:
            told.name = walk.text(part)
        elif part.number == 3:
            told.ints = [_signed64(part.value)]
        elif part.number == 5 and part.length:
            told.tensor = part
        elif part.number in (6, 11) and part.length:
            told.graphs.append(part)
        elif part.number == 8 and part.length <= 1 << 12:
            told.ints += walk.numbers(part)
    return told


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _initializer(walk: Walk, message: Field) -> Initializer:
    found = Initializer()
    for part in walk.fields(message.start, message.start + message.length):
        if part.number == 1:
            found.shape += walk.numbers(part, 1 << 10)
        elif part.number == 2:
            found.kind = part.value
        elif part.number == 8:
            found.name = walk.text(part)
        elif part.number in (_RAW, _FLOATS, _DOUBLES):
            found.start, found.length = part.start, part.length
        elif part.number in (_INTS, _LONGS) and len(found.numbers) < MAX_HELD:
            found.numbers += walk.numbers(part, MAX_HELD)
        elif part.number == 13 and part.length:
            key, value = "", ""
            for pair in walk.fields(part.start, part.start + part.length):
                if pair.number == 1:
                    key = walk.text(pair)
                elif pair.number == 2:
                    value = walk.text(pair)
            if len(found.external) < 16:
                found.external[key] = value
    return found
