"""The usual merges of models: linear, task arithmetic, SLERP, TIES and DARE.

Each takes the tensors of one name and gives the merged one. `base` is the ancestor that the task vectors start from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.vthr.vit import State

Merge = Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor]


def linear(models: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """The weighted sum."""
    total = torch.zeros_like(models[0])
    for model, share in zip(models, shares, strict=True):
        total += share * model
    return total


def task_arithmetic(base: torch.Tensor, models: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """The ancestor plus the weighted sum of what each model changed of it."""
    return base + linear([model - base for model in models], shares)


def slerp(a: torch.Tensor, b: torch.Tensor, at: float) -> torch.Tensor:
    """From a to b along the circle through both; along the line where they point the same way."""
    cosine = torch.dot(a.flatten(), b.flatten()).double() / (a.norm().double() * b.norm().double()).clamp_min(1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return (1 - at) * a + at * b
    left, right = torch.sin((1 - at) * angle) / torch.sin(angle), torch.sin(at * angle) / torch.sin(angle)
    return left.float() * a + right.float() * b


def trimmed(change: torch.Tensor, density: float) -> torch.Tensor:
    """Only the share of values that are largest in size; the others zero."""
    dropped = change.numel() - max(1, round(density * change.numel()))
    if dropped <= 0:
        return change
    bound = change.abs().flatten().kthvalue(dropped).values
    return change * (change.abs() > bound)


def ties(base: torch.Tensor, models: Sequence[torch.Tensor], shares: Sequence[float], density: float) -> torch.Tensor:
    """Trim what each model changed, elect a sign for each value, and average the changes that agree with it."""
    changes = torch.stack([trimmed(model - base, density) * share for model, share in zip(models, shares, strict=True)])
    weights = torch.tensor(shares, dtype=base.dtype).reshape(-1, *[1] * base.ndim)
    agree = (torch.sign(changes) == torch.sign(changes.sum(0))) & (changes != 0)
    weight = (agree * weights).sum(0)
    return base + (changes * agree).sum(0) / torch.where(weight > 0, weight, torch.ones_like(weight))


def dare(
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    shares: Sequence[float],
    drop: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Drop that share of each change by chance and enlarge the rest to make up for it; then task arithmetic."""
    changes = []
    for model in models:
        kept = torch.rand(base.shape, generator=generator) >= drop
        changes.append((model - base) * kept / (1 - drop))
    return base + linear(changes, shares)


def merged(parents: Sequence[State], base: State, head: bool, merge: Merge) -> State:
    """Merge name by name; heads, of tasks that have nothing in common, are left out or taken from the first parent."""
    state: State = {}
    for name, first in parents[0].items():
        if not name.startswith("classifier."):
            state[name] = merge(base[name], [parent[name] for parent in parents])
        elif head:
            state[name] = first
    return state
