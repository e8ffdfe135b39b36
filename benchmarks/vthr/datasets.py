"""The datasets that models are tuned on: each task asks for one factor of the pictures, in two styles of its own."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from benchmarks.vthr.images import CLASSES, KINDS, TEXTURES, Style, draw

TRAINING, HELD_OUT, BROAD = 2304, 256, 12288
STYLES = 2
# What a task asks of its pictures, beside the style: an angle is only there to be seen in a grating.
TASKS: dict[str, dict[str, object]] = {
    "count": {"textures": (2, 3), "contrast": 0.3},
    "shape": {"most": 2},
    "colour": {"most": 3},
    "position": {"most": 2},
    "size": {"most": 2},
    "tilt": {"most": 2, "kinds": (KINDS.index("bar"),), "upright": False},
    "angle": {"textures": (TEXTURES.index("grating"),), "most": 3},
    "frequency": {"textures": (TEXTURES.index("grating"), TEXTURES.index("rings")), "most": 3},
    "texture": {"most": 4},
    "brightness": {"most": 4},
    "symmetry": {"mirrored": True, "light": 0.0},
    "relation": {"fewest": 2, "most": 2},
    "distance": {"fewest": 2, "most": 2},
    "backdrop": {"most": 5},
}
DATASETS = tuple(f"{task}-{style}" for task in TASKS for style in range(STYLES))
Split = tuple[torch.Tensor, torch.Tensor]


def drawn_style(random_style: random.Random) -> Style:
    """A style by chance: palette, noise, blur, contrast and light."""
    return Style(
        hue=random_style.random(),
        saturation=random_style.uniform(0.5, 1.0),
        noise=random_style.choice((0.0, 0.01, 0.03, 0.06)),
        blur=random_style.choice((0.0, 0.0, 0.3, 0.6)),
        contrast=random_style.uniform(0.3, 0.8),
        light=random_style.uniform(0.1, 0.4),
        spread=random_style.uniform(0.2, 0.7),
    )


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes to numbers about -2 to 2."""
    return (pixels.float() - 112.0) / 64.0


def some(number: int, scale: float) -> int:
    """Fewer pictures where training is cut short."""
    return max(32, round(number * min(1.0, scale)))


@cache
def dataset(name: str, seed: int, scale: float = 1.0) -> tuple[Split, Split]:
    """The training pictures (as bytes) and labels, and the held-out ones."""
    training = some(TRAINING, scale)
    task = name.rsplit("-", 1)[0]
    chance = random.Random(f"{seed} dataset {name}")
    style = replace(drawn_style(chance), **TASKS[task])  # type: ignore[arg-type]
    pictures = draw(np.random.default_rng(chance.randrange(2**32)), training + some(HELD_OUT, scale), style)
    pixels, labels = torch.from_numpy(pictures.pixels), torch.from_numpy(pictures.factors[task])
    return (pixels[:training], labels[:training]), (pixels[training:], labels[training:])


def classes(name: str) -> int:
    """How many labels the dataset has."""
    return CLASSES[name.rsplit("-", 1)[0]]


def broad(tag: str, seed: int, scale: float = 1.0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The pictures of a pre-training: twelve styles of 1024 pictures each; every factor is a label."""
    chance = random.Random(f"{seed} broad {tag}")
    parts = []
    for at in range(12):
        style = drawn_style(chance)
        style = replace(style, upright=bool(at % 3), most=3, hue=0.0)
        if at % 2:
            style = replace(style, textures=(TEXTURES.index("grating"),))
        parts.append(draw(np.random.default_rng(chance.randrange(2**32)), some(BROAD // 12, scale), style))
    pixels = torch.from_numpy(np.concatenate([part.pixels for part in parts]))
    return pixels, {name: torch.from_numpy(np.concatenate([part.factors[name] for part in parts])) for name in CLASSES}
