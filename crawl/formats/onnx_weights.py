"""Which initialisers of an ONNX graph are weights, what they are called in the model that was exported, and how they
are quantised: read from the graph, since exporters fold transposes into weights and lose their names.

A weight keeps the name that it has, if an exporter made none up (`onnx::MatMul_123`, `val_49`). Else it is named by the
scope of the node that multiplies by it (`/encoder/layer.0/attention/self/query/MatMul`), else by the bias that is added
to the product (`encoder.layer.0.attention.self.query.bias`).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from crawl.formats.onnx_graph import Graph, Node

__all__ = ["Weight", "find_weights"]

_GENERATED: Final = re.compile(
    r"onnx::\w+|val_\d+|\d+|_v_\d+|new_\w+|const\w*|.*Constant_\d+.*|.*_output_\d+|t_\d+|(p2o\.)?helper\..*|p2o\..*"
)
_QUANTISED: Final = re.compile(r"(_quantized|_q|_DequantizeLinear_Output|_dequantized?|_DequantizeLinear)$")
_PRODUCTS: Final = frozenset(("MatMul", "Gemm", "MatMulInteger", "Conv", "ConvTranspose", "Gather", "ConvInteger"))
_SUMS: Final = frozenset(("Add", "Cast", "Mul"))
_STEPS: Final = 8
"""How far a weight is followed back to its initialiser, and a product on to its bias."""


@dataclass(frozen=True, slots=True)
class Weight:
    """An initialiser and what it stands for: transposed or not, with a scale and a zero point or without."""

    name: str
    initializer: str
    transposed: bool = False
    scale: str | None = None
    zero: str | None = None
    axis: int = -1
    """Along which the scale changes where it has one axis."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where an operand comes from: an initialiser, what was done to it on the way, and which others took part."""

    initializer: str
    turned: bool = False
    scale: str | None = None
    zero: str | None = None
    axis: int = -1


def find_weights(graph: Graph) -> list[Weight]:
    """The weights of a graph, in the order of its nodes; the initialisers that no product uses come last, under
    their names, where they have one."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    users: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            users[name].append(node)
    found: dict[str, Weight] = {}
    helpers: set[str] = set()
    for node in graph.nodes:
        if node.operation not in _PRODUCTS:
            continue
        at = 0 if node.operation == "Gather" else 1
        operands = [at, 0] if node.operation in ("MatMul", "Gemm") else [at]
        for at in operands:
            operand = node.inputs[at] if at < len(node.inputs) else ""
            origin = _origin(operand, graph, makers, node)
            if origin is None:
                continue
            helpers |= {name for name in (origin.scale, origin.zero) if name}
            if origin.initializer not in found:
                found[origin.initializer] = _named(operand, origin, node, graph, users, at)
            break
    for name, told in graph.initializers.items():
        # A number that an operation takes is no weight.
        number = told.constant and math.prod(told.shape) <= 1
        if name not in found and name not in helpers and not number and not _is_generated(name):
            found[name] = Weight(name, name)
    return list(found.values())


def _origin(operand: str, graph: Graph, makers: dict[str, Node], node: Node) -> _Origin | None:
    """What `operand` is made of, when that is one initialiser, a scale and a zero point at most."""
    turned, scale, zero, axis = False, None, None, -1
    if node.operation in ("MatMulInteger", "ConvInteger") and operand in graph.initializers:
        base = _QUANTISED.sub("", operand)
        scale = f"{base}_scale" if f"{base}_scale" in graph.initializers else None
        zero = node.inputs[3] if len(node.inputs) > 3 and node.inputs[3] in graph.initializers else None
        if scale is None:
            return None
        return _Origin(operand, False, scale, zero, 0 if node.operation == "ConvInteger" else -1)
    for _ in range(_STEPS):
        if operand in graph.initializers:
            return _Origin(operand, turned, scale, zero, axis)
        maker = makers.get(operand)
        if maker is None or not maker.inputs:
            return None
        inputs = maker.inputs
        if maker.operation == "Transpose" and maker.ints.get("perm", [1, 0]) == [1, 0]:
            turned = not turned
        elif maker.operation == "DequantizeLinear" and scale is None and len(inputs) > 1:
            scale = inputs[1] if inputs[1] in graph.initializers else None
            zero = inputs[2] if len(inputs) > 2 and inputs[2] in graph.initializers else None
            axis = maker.ints.get("axis", [1])[0]
            if scale is None:
                return None
        elif maker.operation == "Mul" and scale is None and len(inputs) > 1 and inputs[1] in graph.initializers:
            scale = inputs[1]
        elif maker.operation not in ("Cast", "Identity"):
            return None
        operand = inputs[0]
    return None


def _named(operand: str, origin: _Origin, node: Node, graph: Graph, users: dict[str, list[Node]], at: int) -> Weight:
    """The weight under its own name, or under the one that the graph tells; that one is of the transposed matrix."""
    for name in (operand, origin.initializer):
        own = _QUANTISED.sub("", name) if origin.scale else name
        if not _is_generated(own):
            # It lies as the model has it, whatever is done to it on the way.
            return Weight(own, origin.initializer, False, origin.scale, origin.zero, origin.axis)
    told = _scope(node.name) or _bias(node, graph, users)
    if told is None:
        return Weight(origin.initializer, origin.initializer, False, origin.scale, origin.zero, origin.axis)
    product = node.operation in ("MatMul", "Gemm", "MatMulInteger")
    kept = bool(node.ints.get("transB", [0])[0]) if node.operation == "Gemm" else False
    as_used = origin.turned != kept
    turned = product and at == 1 and not as_used
    return Weight(f"{told}.weight", origin.initializer, turned, origin.scale, origin.zero, origin.axis)


def _is_generated(name: str) -> bool:
    return _GENERATED.fullmatch(name) is not None or name.startswith("/")


def _scope(node: str) -> str | None:
    """`/layer1/layer1.0/conv1/Conv` is layer1.0.conv1: a scope repeats the one around it when that is a Sequential."""
    parts = [part for part in node.split("/") if part]
    if not node.startswith("/") or len(parts) < 2:
        return None
    tokens: list[str] = []
    for part in parts[:-1]:
        if tokens and part.startswith(f"{tokens[-1]}."):
            tokens.pop()
        tokens.append(part)
    return ".".join(tokens)


def _bias(node: Node, graph: Graph, users: dict[str, list[Node]]) -> str | None:
    """The module whose bias is added to what `node` gives."""
    if node.operation == "Gemm" and len(node.inputs) > 2 and node.inputs[2].endswith(".bias"):
        return node.inputs[2].removesuffix(".bias")
    for _ in range(_STEPS):
        following = users.get(node.outputs[0], []) if node.outputs else []
        if len(following) != 1 or following[0].operation not in _SUMS:
            return None
        node = following[0]
        if node.operation == "Add":
            biases = [name for name in node.inputs if name in graph.initializers and name.endswith(".bias")]
            return biases[0].removesuffix(".bias") if len(biases) == 1 else None
    return None
