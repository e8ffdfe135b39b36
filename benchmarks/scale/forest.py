"""The forest of a synthetic Hub: who descends from whom, how, in which architecture. No weights yet.

A quarter of the models are alone. The sizes of the other families are heavy-tailed (Pareto, exponent 1.1), and one
family holds a tenth of all models. Within a family a new model descends from a random earlier one or, as likely, from
that one's parent: so degrees are heavy-tailed too, as on the Hub. Copies and what is computed from weights (casts,
quantised, pruned models) are leaves, and so are merges.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARCHITECTURES", "KINDS", "Forest", "grow_forest", "model_name"]

KINDS: Final = ("root", "finetune", "lora", "quantized", "cast", "pruned", "copy", "merge")
_SHARES: Final = (0.0, 0.70, 0.15, 0.05, 0.03, 0.02, 0.03, 0.02)
"""Of the models that are no roots."""
_TRAINED: Final = 3
"""Kinds below this one have children."""
ARCHITECTURES: Final = (32, 36, 28, 40, 34, 30, 38, 44)
"""Side of each architecture's matrices. The first holds the largest family; the rest share by Zipf's law."""
_ALONE: Final = 0.25
_TAIL: Final = 1.1
_LARGEST: Final = 0.1
_STEP: Final = (0.06, 0.5, 0.25)
"""Median, log-standard deviation and largest value of a training step: its length over that of the root."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Forest:
    """N models; a parent stands before its children."""

    parent: Ints
    """N; -1 for roots."""
    other: Ints
    """N; the second parent of a merge, else -1."""
    kind: Ints
    """N; place in KINDS."""
    family: Ints
    """N; 0 is the largest."""
    architecture: Ints
    """N; place in ARCHITECTURES."""
    step: NDArray[np.float64]
    """N; length of the training step over the root's length."""

    def __len__(self) -> int:
        return len(self.parent)


def model_name(index: int, seed: int) -> str:
    """A name that tells nothing of a model's place: ties go by name."""
    digest = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).hexdigest()
    return f"org-{digest[:3]}/model-{digest[3:]}"


def grow_forest(models: int, seed: int = 0) -> Forest:
    """A forest of so many models; the same call gives the same forest."""
    rng = np.random.default_rng([seed, models])
    family, architecture = _families(models, rng)
    kind = rng.choice(len(KINDS), models, p=_SHARES)
    parent, other = np.full(models, -1), np.full(models, -1)
    median, spread, most = _STEP
    step = np.minimum(median * np.exp(spread * rng.standard_normal(models)), most)
    able: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    draws = rng.random((models, 3))
    for i in range(models):
        before = able.setdefault(int(family[i]), [])
        if not before:
            kind[i] = 0
            before.append(i)
            continue
        p = before[int(draws[i, 0] * len(before))]
        if draws[i, 1] < 0.5 and parent[p] >= 0:
            p = int(parent[p])
        if kind[i] == KINDS.index("merge"):
            siblings = children.get(p, [])
            if len(siblings) < 2:
                kind[i] = 1
            else:
                at = int(draws[i, 2] * len(siblings))
                p, other[i] = siblings[at], siblings[at - 1]
        parent[i] = p
        if kind[i] < _TRAINED:
            before.append(i)
            children.setdefault(p, []).append(i)
    return Forest(parent, other, kind, family, architecture, step)


def _families(models: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Family and architecture of each model. Members of all families arrive in a random order."""
    sizes = [max(1, int(_LARGEST * models))]
    left = models - sizes[0] - int(_ALONE * models)
    while left > 0:
        # No second one as large as the first.
        sizes.append(int(min(left, 1 + rng.pareto(_TAIL), sizes[0])) or 1)
        sizes[-1] = min(max(2, sizes[-1]), left)
        left -= sizes[-1]
    sizes += [1] * (models - sum(sizes))
    share = 1 / np.arange(1, len(ARCHITECTURES) + 1)
    place = rng.choice(len(ARCHITECTURES), len(sizes), p=share / share.sum())
    place[0] = 0
    family = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(family)
    return family, place[family]
