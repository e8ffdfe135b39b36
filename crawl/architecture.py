"""Canonical tensor names and the architecture key: what makes two models comparable.

Exports of one model differ in wrappers (`module.`, `bert.`, `base_model.model.`), heads and vocabulary. Names are
therefore made canonical from the *structure* rather than from a list of model families: the leading path shared by all
stacks of repeated blocks is a wrapper. The architecture key hashes names and shapes of the backbone only, never dtype,
file order or file format, so a child with a new head or sixteen more tokens still meets its parent.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Final

from blake3 import blake3

__all__ = ["ARCHITECTURE_VERSION", "Shape", "adapter_key", "architecture_key", "backbone", "canonical_names", "role"]

ARCHITECTURE_VERSION: Final = 1

Shape = tuple[int, ...]

# Containers of training frameworks, never part of a model's own structure.
_WRAPPERS: Final = frozenset(
    {"module", "model", "net", "network", "backbone", "base_model", "_orig_mod", "state_dict", "ema_model"}
)
# Buffers that a framework recomputes and that come and go between versions of one library.
_BUFFERS: Final = re.compile(
    r"(^|\.)(position_ids|token_type_ids|masked_bias|inv_freq|num_batches_tracked|relative_position_index"
    r"|attn_mask|causal_mask|cos_cached|sin_cached|freqs_cis|step|steps)$"
)
# What an audio front end, a position or a rotation (Wigner's 3j symbols) is computed from: nobody trains it, and
# strangers have it in common. It stays part of the architecture.
_CONSTANTS: Final = re.compile(
    r"(^|\.)(forward_basis(_buffer)?|inverse_basis(_buffer)?|mel_basis|mel_filters|melw|wsin|wcos|dct_mat|(hann_)?window"
    r"|i?stft\.conv_(real|imag)\.weight|mel_?scale\.fb|pos\w*\.pe|_w3j(_\d+){3}|u_matrix_\d+)$",
    re.IGNORECASE,
)
_STATISTICS: Final = re.compile(r"(^|\.)(running_mean|running_var|moving_mean|moving_variance)$")
_HEADS: Final = re.compile(
    r"(^|\.)(lm_head|embed_out|classifier|classification_head|head|heads|fc_out|score|qa_outputs|cls|predictions"
    r"|pooler|logits?|output_layer|mlm|nsp|seq_relationship|fc|probs|projection_head)(\.|$)"
)
# The part is looked over to its end first: else "embedembedembed-" is tried from each of its syllables.
_EMBEDDINGS: Final = re.compile(
    r"(^|\.)(?=\w*+(?:\.|$))(\w*embed|(?:wte|wpe|tok_embeddings|shared|lookup_table)(\.|$))", re.IGNORECASE
)
_LAST: Final = 0.25
"""Share of a model that its last matrices are less than."""
_DEEPEST: Final = 24
"""Parts of a name that are looked at one by one, and wrappers that are stripped: a name of a thousand parts, which no
model has, would cost its square."""


def _weight(shape: Shape) -> float:
    """Share of a tensor in a model: sqrt(elements), so that one huge embedding does not outvote the depth."""
    return math.sqrt(math.prod(shape))


def _tokens(name: str) -> tuple[str, ...]:
    return tuple(name.split(".", _DEEPEST))


def _stacks(names: Iterable[str]) -> set[tuple[str, ...]]:
    """Every path that is followed by at least two different integer indices: a stack of repeated blocks."""
    first: dict[tuple[str, ...], int] = {}
    found: set[tuple[str, ...]] = set()
    for name in names:
        tokens = _tokens(name)
        for at, token in enumerate(tokens[:-1]):
            # Not isdigit: to int, "²" is none.
            if token.isdecimal() and first.setdefault(tokens[:at], int(token)) != int(token):
                found.add(tokens[:at])
    return found


def _in_stack(name: str, stacks: Container[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The outermost stack that a name belongs to."""
    tokens = _tokens(name)
    for at, token in enumerate(tokens[:-1]):
        if token.isdecimal() and tokens[:at] in stacks:
            return tokens[:at]
    return None


def canonical_names(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Source name -> canonical name, one to one.

    Leading wrappers are stripped while they can be: framework containers everywhere, and then the leading path that
    all stacks of repeated blocks have in common. A step that would make two names equal is not taken.
    """
    current = {name: name for name in shapes}
    for _ in range(_DEEPEST):
        stripped = _strip_containers(current) or _strip_stack_path(current, shapes)
        if stripped is None:
            break
        current = stripped
    return current


def _strip_token(current: Mapping[str, str], token: str) -> dict[str, str] | None:
    lead = token + "."
    result = {
        source: name[len(lead) :] if name.startswith(lead) and len(name) > len(lead) else name
        for source, name in current.items()
    }
    return result if len(set(result.values())) == len(result) and result != current else None


def _strip_containers(current: Mapping[str, str]) -> dict[str, str] | None:
    first = Counter(name.split(".", 1)[0] for name in current.values() if "." in name)
    for token in sorted(first):
        if token in _WRAPPERS and (stripped := _strip_token(current, token)) is not None:
            return stripped
    return None


def _strip_stack_path(current: Mapping[str, str], shapes: Mapping[str, Shape]) -> dict[str, str] | None:
    stacks = _stacks(current.values())
    weights: dict[tuple[str, ...], float] = defaultdict(float)
    for source, name in current.items():
        stack = _in_stack(name, stacks)
        if stack is not None:
            weights[stack] += _weight(shapes[source])
    if not weights:
        return None
    # A small auxiliary stack (a head of three layers, say) does not decide what the wrapper is.
    large = [stack for stack, weight in weights.items() if weight >= 0.1 * max(weights.values())]
    leading = {stack[0] if len(stack) > 1 else None for stack in large}
    token = leading.pop() if len(leading) == 1 else None
    return _strip_token(current, token) if token is not None else None


def role(name: str, shape: Shape) -> str:
    """What a tensor is for: buffer, statistic, constant, head, embedding, weight (two long axes or more) or vector."""
    if _BUFFERS.search(name) or (name.endswith("attn.bias") and len(shape) == 4):
        return "buffer"
    if _STATISTICS.search(name):
        return "statistic"
    if _CONSTANTS.search(name):
        return "constant"
    if not re.search(r"\.\d+\.", f".{name}"):
        if _HEADS.search(name):
            return "head"
        if _EMBEDDINGS.search(name):
            return "embedding"
    # [768, 1, 1] is a vector in disguise.
    return "weight" if sum(size > 1 for size in shape) >= 2 else "vector"


def backbone(shapes: Mapping[str, Shape]) -> list[str]:
    """Sorted canonical names that define the architecture.

    The tensors of repeated blocks when these hold at least half of the model, else everything but heads, those too that
    are none by name (`_last_matrices`). Buffers and running statistics never count, for libraries add and drop them,
    nor numbers without an axis, which exporters to ONNX fold as they like.
    """
    roles = {name: role(name, shape) for name, shape in shapes.items()}
    kept = {name: shape for name, shape in shapes.items() if shape and roles[name] not in ("buffer", "statistic")}
    stacks = _stacks(kept)
    blocks = [name for name in kept if _in_stack(name, stacks) is not None]
    if sum(_weight(kept[name]) for name in blocks) >= 0.5 * sum(map(_weight, kept.values())):
        return sorted(blocks)
    body = {name: shape for name, shape in kept.items() if roles[name] != "head"}
    trunk = body.keys() - _last_matrices(body)
    for some in (trunk, body):
        if any(roles[name] == "weight" for name in some):
            return sorted(some)
    return sorted(kept)


def _last_matrices(shapes: Mapping[str, Shape]) -> set[str]:
    """Matrices, with their biases, whose outputs no other matrix takes in, and that have fewer outputs than inputs:
    with them ends a model of unknown names. None where that would be a quarter of the model or more.

    The gates of a recurrent layer are as large, but their layer has a recurrent matrix too.
    """
    weights = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    taken_in = Counter(shape[1] for shape in weights.values())
    layers = Counter(name.rpartition(".")[0] for name in weights)
    last = {
        name.rpartition(".")[0]
        for name, shape in weights.items()
        if shape[0] < shape[1] and not taken_in[shape[0]] and layers[name.rpartition(".")[0]] == 1
    } - {""}
    found = {name for name in shapes if name.rpartition(".")[0] in last}
    if sum(_weight(shapes[name]) for name in found) >= _LAST * sum(map(_weight, shapes.values())):
        return set()
    return found


def architecture_key(shapes: Mapping[str, Shape]) -> str:
    """16 hex digits over the backbone's canonical names and shapes; `shapes` is keyed by canonical name."""
    digest = blake3(f"modelkin architecture {ARCHITECTURE_VERSION}\n".encode())
    for name in backbone(shapes):
        digest.update(f"{name} {'x'.join(map(str, shapes[name]))}\n".encode())
    return digest.hexdigest(length=8)


def adapter_key(shapes: Mapping[str, Shape]) -> str:
    """16 hex digits over all canonical names and shapes that an adapter tunes; never the key of a model's."""
    digest = blake3(f"modelkin adapter {ARCHITECTURE_VERSION}\n".encode())
    for name in sorted(shapes):
        digest.update(f"{name} {'x'.join(map(str, shapes[name]))}\n".encode())
    return digest.hexdigest(length=8)
