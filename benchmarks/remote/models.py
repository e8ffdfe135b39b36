"""Models whose files follow from a seed: the values of a tensor are a stretch of its model's ring of values.

A ring holds a few million bfloat16 values; a fine-tune's ring is its parent's, moved and rounded. So any byte of a
14 GB repository is a look-up, which costs no more than copying it, and all of them are read as fast as from a disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np

__all__ = ["File", "Repository", "large_family", "large_truth", "llama_shapes", "small_family"]

Shapes = Mapping[str, tuple[int, ...]]
Read = Callable[[int, int], bytes]

RING: Final = 6_291_469
"""Values of a ring; a prime, so that no two tensors begin alike."""
DECAY: Final = 0.9999
"""What weight decay leaves of the parent: a rate of 1e-5 times a decay of .01 over a thousand steps."""
SHARD: Final = 5_000_000_000
"""Bytes of a shard at most, as transformers writes them."""

# base ─┬─ chat ─── chat-v2
#       ├─ code ─── code-math
#       ├─ medical
#       └─ french
# other
_LARGE: Final = {
    "lab/base": (None, 0.0),
    "lab/chat": ("lab/base", 0.03),
    "lab/chat-v2": ("lab/chat", 0.02),
    "org/code": ("lab/base", 0.05),
    "org/code-math": ("org/code", 0.02),
    "org/medical": ("lab/base", 0.04),
    "org/french": ("lab/base", 0.03),
    "org/other": (None, 0.0),
}
"""Name -> (parent, length of the training step over that of the weights)."""


@dataclass(frozen=True, slots=True)
class File:
    """One file: `read(start, stop)` gives its bytes."""

    path: str
    size: int
    read: Read


@dataclass(frozen=True)
class Repository:
    """One model as a Hub has it."""

    name: str
    files: Mapping[str, File]
    card: Mapping[str, object]
    created: str

    @property
    def sha(self) -> str:
        return hashlib.sha1(self.name.encode(), usedforsecurity=False).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(file.size for path, file in self.files.items() if path.endswith(".safetensors"))


def llama_shapes(layers: int, width: int, hidden: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama: (32, 4096, 11008, 32000) is the one of 7B parameters."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for i in range(layers):
        block = f"model.layers.{i}."
        shapes |= {f"{block}self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{block}mlp.{part}_proj.weight": (hidden, width) for part in ("gate", "up")}
        shapes[f"{block}mlp.down_proj.weight"] = (width, hidden)
        shapes |= {f"{block}{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def large_family(shapes: Shapes, seed: int = 0, ring: int = RING) -> list[Repository]:
    """Eight models of one shape: a root, four children of it, a child each of two of these, and one trained apart."""
    rings: dict[str, np.ndarray] = {}
    found = []
    for at, (name, (parent, step)) in enumerate(_LARGE.items()):
        rng = np.random.default_rng([seed, at])
        noise = rng.standard_normal(ring, np.float32)
        if parent is None:
            # Heavier tails than a Gaussian's, as trained weights have.
            values = 0.02 * noise * (0.6 + 0.4 * rng.standard_exponential(ring, np.float32))
        else:
            values = DECAY * rings[parent].astype(np.float32) + 0.02 * step * noise
        rings[name] = values.astype(ml_dtypes.bfloat16)
        files = _files(shapes, rings[name].tobytes(), seed)
        card = {"base_model": parent, "license": "apache-2.0"} if parent else {"license": "apache-2.0"}
        found.append(Repository(name, files, card, f"2024-01-{at + 1:02d}T00:00:00.000Z"))
    return found


def large_truth() -> dict[str, str]:
    """Child -> parent."""
    return {name: parent for name, (parent, _) in _LARGE.items() if parent is not None}


def small_family(models: int, seed: int = 0, layers: int = 2, width: int = 64) -> list[Repository]:
    """Models of 0.4 MB in families of ten, a root and nine children, each one file in float32."""
    shapes = {
        f"encoder.layer.{i}.{part}.weight": shape
        for i in range(layers)
        for part, shape in (
            *((part, (width, width)) for part in ("query", "key", "value", "output")),
            *(("up", (4 * width, width)), ("down", (width, 4 * width))),
        )
    }
    size = sum(math.prod(shape) for shape in shapes.values())
    found = []
    root = np.zeros(0, np.float32)
    for at in range(models):
        noise = np.random.default_rng([seed, at]).standard_normal(size, np.float32)
        root = 0.05 * noise if at % 10 == 0 else root
        values = root if at % 10 == 0 else root + 0.002 * noise
        content = _header(shapes, "F32", 4) + values.tobytes()
        name = f"small-{at // 10:04d}/model-{at:05d}"
        files = {"model.safetensors": _in_memory("model.safetensors", content)}
        files["README.md"] = _in_memory("README.md", b"---\nlicense: mit\n---\n")
        files["config.json"] = _in_memory("config.json", b"{}")
        found.append(Repository(name, files, {"license": "mit"}, "2024-01-01T00:00:00.000Z"))
    return found


def _in_memory(path: str, content: bytes) -> File:
    return File(path, len(content), lambda start, stop: content[start:stop])


def _header(shapes: Shapes, dtype: str, itemsize: int) -> bytes:
    fields: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * itemsize
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _files(shapes: Shapes, ring: bytes, seed: int) -> dict[str, File]:
    """Shards of bfloat16 and their index."""
    parts: list[dict[str, tuple[int, ...]]] = [{}]
    room = SHARD
    for name in sorted(shapes):
        size = 2 * math.prod(shapes[name])
        if size > room:
            parts.append({})
            room = SHARD
        parts[-1][name] = shapes[name]
        room -= size
    files: dict[str, File] = {}
    placed: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        path = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        placed |= dict.fromkeys(part, path)
        header = _header(part, "BF16", 2)
        size = len(header) + sum(2 * math.prod(shape) for shape in part.values())
        files[path] = File(path, size, _Shard(header, part, ring, seed).read)
    index = json.dumps({"metadata": {}, "weight_map": placed}).encode()
    return files | {"model.safetensors.index.json": _in_memory("model.safetensors.index.json", index)}


class _Shard:
    """The bytes of one shard."""

    def __init__(self, header: bytes, shapes: Shapes, ring: bytes, seed: int) -> None:
        self._header = header
        self._ring = memoryview(ring)
        stops = np.cumsum([2 * math.prod(shape) for shape in shapes.values()]).tolist()
        self._starts: Sequence[int] = [0, *stops]
        self._places = [2 * (_number(name, seed) % (len(ring) // 2)) for name in shapes]

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop` of the file."""
        found = bytearray(self._header[start:stop])
        at, stop = max(0, start - len(self._header)), stop - len(self._header)
        tensor = int(np.searchsorted(self._starts, at, "right")) - 1
        while at < stop:
            while at >= self._starts[tensor + 1]:
                tensor += 1
            place = (self._places[tensor] + at - self._starts[tensor]) % len(self._ring)
            size = min(stop, self._starts[tensor + 1], at + len(self._ring) - place) - at
            found += self._ring[place : place + size]
            at += size
        return bytes(found)


def _number(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=6).digest(), "little")
