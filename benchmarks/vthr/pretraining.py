"""Five ways to pre-train a root: two supervised ones, masked autoencoding, contrastive learning and a pretext task."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.vthr.datasets import as_floats, broad
from benchmarks.vthr.images import CLASSES
from benchmarks.vthr.vit import PATCH, SIDE, TOKENS, WIDTH, Layer, State, ViT

RATE, DECAY, WARMUP = 5e-4, 0.05, 0.1
CHECKPOINTS = 10


class Objective(ABC, nn.Module):
    """The model with what its pre-training needs beside it; `kept` says which of its parameters a checkpoint holds."""

    steps, batch, classes = 1300, 32, 1
    has_head = True

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(self.classes)
        self.generator = torch.Generator()

    @abstractmethod
    def loss(self, pixels: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of one batch, and `score` for the log."""

    def kept(self) -> State:
        return {
            name: tensor.detach().clone()
            for name, tensor in self.vit.state_dict().items()
            if self.has_head or not name.startswith("classifier.")
        }


class Supervised(Objective):
    """Several factors at once: the classifier's rows are shared out among them."""

    factors: tuple[str, ...] = ()

    def loss(self, pixels: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = self.vit(as_floats(pixels)).split([CLASSES[factor] for factor in self.factors], 1)
        losses = [
            functional.cross_entropy(part, labels[factor]) for part, factor in zip(parts, self.factors, strict=True)
        ]
        return torch.stack(losses).mean()


class Objects(Supervised):
    """Supervised by the shapes in the picture."""

    factors = ("shape", "colour", "position", "count", "size")
    classes = sum(CLASSES[factor] for factor in factors)


class Scenes(Supervised):
    """Supervised by the background, the light and how things lie."""

    factors = ("texture", "angle", "frequency", "backdrop", "brightness", "relation")
    classes = sum(CLASSES[factor] for factor in factors)


class Masked(Objective):
    """Ten of the sixteen patches are hidden; a small decoder, thrown away afterwards, paints them."""

    steps, batch, has_head = 1600, 40, False
    shown = 6

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Linear(WIDTH, 64)
        self.hidden = nn.Parameter(torch.zeros(1, 1, 64))
        self.positions = nn.Parameter(torch.randn(1, TOKENS, 64) * 0.02)
        self.decoder = nn.Sequential(Layer(64, 256), nn.LayerNorm(64), nn.Linear(64, 3 * PATCH * PATCH))

    def loss(self, pixels: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        x = as_floats(pixels)
        shuffled = torch.rand(len(x), TOKENS, generator=self.generator).argsort(1)
        seen, unseen = shuffled[:, : self.shown], shuffled[:, self.shown :]
        encoded = self.narrow(self.vit.tokens(x, seen))
        canvas = self.hidden.expand(len(x), TOKENS, -1)
        canvas = canvas.scatter(1, seen[:, :, None].expand(-1, -1, 64), encoded[:, 1:]) + self.positions
        painted = self.decoder(torch.cat([encoded[:, :1], canvas], 1))[:, 1:]
        patches = functional.unfold(x, PATCH, stride=PATCH).transpose(1, 2)
        wanted = (patches - patches.mean(2, keepdim=True)) / (patches.std(2, keepdim=True) + 0.05)
        missed: torch.Tensor = ((painted - wanted) ** 2).mean(2)
        return missed.gather(1, unseen).mean()


class Contrastive(Objective):
    """Two views of a picture are to lie closer than any two of different pictures (SimCLR)."""

    steps, batch, has_head = 900, 24, False

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(WIDTH, 128), nn.GELU(), nn.Linear(128, 64))

    def view(self, x: torch.Tensor) -> torch.Tensor:
        """A random crop, perhaps mirrored, with its colours and contrast changed."""
        n = len(x)
        draw = torch.rand(8, n, generator=self.generator)
        scale = 0.6 + 0.4 * draw[0]
        grid = torch.zeros(n, 2, 3)
        grid[:, 0, 0], grid[:, 1, 1] = scale * (1 - 2 * (draw[1] < 0.5).float()), scale
        grid[:, 0, 2], grid[:, 1, 2] = (1 - scale) * (2 * draw[2] - 1), (1 - scale) * (2 * draw[3] - 1)
        x = functional.grid_sample(
            x, functional.affine_grid(grid, [n, 3, SIDE, SIDE], align_corners=False), align_corners=False
        )
        gain = (0.6 + 0.8 * draw[4:7]).T[:, :, None, None]
        grey = (draw[7] < 0.15).float()[:, None, None, None]
        x = x * gain
        return x * (1 - grey) + x.mean(1, keepdim=True) * grey

    def loss(self, pixels: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        x = as_floats(pixels)
        z = self.projection(self.vit.tokens(torch.cat([self.view(x), self.view(x)]))[:, 0])
        z = functional.normalize(z, dim=1)
        likeness = (z @ z.T / 0.2).fill_diagonal_(-1e9)
        partner = torch.arange(len(z)).roll(len(x))
        return functional.cross_entropy(likeness, partner)


class Rotation(Objective):
    """By how many quarter turns was the picture turned? (Light falls from above, and shapes stand upright.)"""

    classes = 4

    def loss(self, pixels: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        x = as_floats(pixels)
        turns = torch.randint(0, 4, (len(x),), generator=self.generator)
        turned = torch.stack([torch.rot90(picture, int(k), (1, 2)) for picture, k in zip(x, turns, strict=True)])
        return functional.cross_entropy(self.vit(turned), turns)


WAYS: dict[str, type[Objective]] = {
    "masked": Masked,
    "objects": Objects,
    "contrastive": Contrastive,
    "scenes": Scenes,
    "rotation": Rotation,
}


def warm_cosine(steps: int) -> Callable[[int], float]:
    """Up in a straight line, then down along a cosine."""
    warm = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def pretrain(way: str, seed: int, scale: float, keep: Callable[[int, State], None], log: Callable[[str], None]) -> None:
    """Train a root, handing over CHECKPOINTS states: the initialisation first, the root itself last."""
    chance = random.Random(f"{seed} pretraining {way}")
    torch.manual_seed(chance.randrange(2**32))
    objective = WAYS[way]()
    objective.generator.manual_seed(chance.randrange(2**32))
    pixels, labels = broad(way, seed, scale)
    steps = max(CHECKPOINTS, round(objective.steps * scale))
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    others = [p for p in objective.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warm_cosine(steps))
    marks = {round(steps * at / (CHECKPOINTS - 1)): at for at in range(CHECKPOINTS)}
    keep(0, objective.kept())
    order, recent = torch.empty(0, dtype=torch.long), 0.0
    for step in range(1, steps + 1):
        if len(order) < objective.batch:
            order = torch.randperm(len(pixels), generator=objective.generator)
        batch, order = order[: objective.batch], order[objective.batch :]
        loss = objective.loss(pixels[batch], {name: factor[batch] for name, factor in labels.items()})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent = loss.item() if step == 1 else 0.95 * recent + 0.05 * loss.item()
        if step in marks:
            log(f"{way}: loss {recent:.3f} after {step} of {steps} steps")
            keep(marks[step], objective.kept())
