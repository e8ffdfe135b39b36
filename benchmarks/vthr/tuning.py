"""Tuning a parent on another dataset: all of it, some of its layers, or through low-rank adapters merged afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.vthr.datasets import as_floats, classes, dataset
from benchmarks.vthr.vit import DEPTH, State, ViT


@dataclass(frozen=True)
class Recipe:
    """All that makes a child from its parent; `rank` is read only by LoRA."""

    data: str
    seed: int
    method: str = "full"
    rate: float = 3e-4
    decay: float = 0.0
    steps: int = 100
    batch: int = 16
    rank: int = 16


def trains(method: str, name: str) -> bool:
    """Does the method train this parameter? A fresh head is always trained."""
    if name.startswith("classifier."):
        return True
    if method == "upper":
        return name.startswith("layernorm.") or any(
            name.startswith(f"encoder.layer.{at}.") for at in range(DEPTH // 2, DEPTH)
        )
    if method == "last":
        return name.startswith(f"encoder.layer.{DEPTH - 1}.")
    if method == "bitfit":
        return "layernorm" in name or name.endswith(".bias")
    if method == "attention":
        return ".attention." in name
    return method == "full"


class Adapted(nn.Module):
    """A frozen linear layer plus a product of two thin matrices; alpha is the rank, so that the product counts once."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + (x @ self.down.T) @ self.up.T  # type: ignore[no-any-return]

    def merged(self) -> nn.Linear:
        """The layer that does the same without adapters."""
        with torch.no_grad():
            self.base.weight += self.up @ self.down
        return self.base


def with_adapters(model: ViT, rank: int) -> list[tuple[nn.Module, str, Adapted]]:
    """Put adapters on every query and value; where each was put."""
    placed: list[tuple[nn.Module, str, Adapted]] = []
    for layer in model.encoder.blocks:
        attention = layer.attention.attention
        for name in ("query", "value"):
            adapted = Adapted(getattr(attention, name), rank)
            setattr(attention, name, adapted)
            placed.append((attention, name, adapted))
    return placed


def tuned(
    parent: State, recipe: Recipe, seed: int, scale: float = 1.0, checkpoints: int = 1
) -> tuple[list[State], float]:
    """So many states evenly along the training, the child itself last, and its accuracy on held-out pictures."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    model = ViT(classes(recipe.data))
    body = {name: tensor.float() for name, tensor in parent.items() if not name.startswith("classifier.")}
    missing, unexpected = model.load_state_dict(body, strict=False)
    if unexpected or set(missing) != {"classifier.weight", "classifier.bias"}:
        raise ValueError(f"the parent is no ViT of this size: {missing} {unexpected}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(recipe.method, name))
    adapters = with_adapters(model, recipe.rank) if recipe.method == "lora" else []
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, fused=True)
    steps = max(2, checkpoints, round(recipe.steps * scale))
    marks = {round(steps * at / checkpoints) for at in range(1, checkpoints)}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, falling(steps))
    (pixels, labels), (held_pixels, held_labels) = dataset(recipe.data, seed, scale)
    kept, order = [], torch.empty(0, dtype=torch.long)
    for step in range(1, steps + 1):
        if len(order) < recipe.batch:
            order = torch.randperm(len(pixels), generator=generator)
        batch, order = order[: recipe.batch], order[recipe.batch :]
        loss = functional.cross_entropy(model(as_floats(pixels[batch])), labels[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        schedule.step()
        if step in marks:
            kept.append(snapshot(model))
    for module, name, adapted in adapters:
        setattr(module, name, adapted.merged())
    with torch.no_grad():
        right = (model(as_floats(held_pixels)).argmax(1) == held_labels).float().mean().item()
    return [*kept, snapshot(model)], right


def snapshot(model: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def falling(steps: int) -> Callable[[int], float]:
    """A short warm-up, then down in a straight line, as Hugging Face's trainer does it."""
    warm = max(1, steps // 20)
    return lambda step: (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))
