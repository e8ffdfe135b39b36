"""Pictures of 32 x 32 drawn by numpy: textured backgrounds with one to six shapes, and every factor of them.

The factors are the labels of `datasets`: each task asks for one of them, the supervised pre-trainings for several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIDE, SLOTS = 32, 6
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
KINDS = ("disc", "square", "triangle", "ring", "cross", "bar")
TEXTURES = ("grating", "checker", "gradient", "clouds", "rings", "grain")
# How many classes each factor has.
CLASSES = {
    "count": SLOTS,
    "shape": len(KINDS),
    "colour": 8,
    "position": 9,
    "size": 4,
    "tilt": 8,
    "angle": 8,
    "frequency": 5,
    "texture": len(TEXTURES),
    "brightness": 5,
    "symmetry": 4,
    "relation": 4,
    "distance": 4,
    "backdrop": 6,
}


@dataclass(frozen=True)
class Style:
    """What the pictures of one dataset have in common."""

    hue: float = 0.0
    saturation: float = 0.8
    noise: float = 0.05
    blur: float = 0.0
    contrast: float = 0.6
    light: float = 0.3
    fewest: int = 1
    most: int = SLOTS
    kinds: tuple[int, ...] = tuple(range(len(KINDS)))
    textures: tuple[int, ...] = tuple(range(len(TEXTURES)))
    upright: bool = True
    mirrored: bool = False
    spread: float = 0.35


@dataclass(frozen=True)
class Pictures:
    """Bytes of shape (n, 3, 32, 32) and the factors of each picture."""

    pixels: npt.NDArray[np.uint8]
    factors: dict[str, Labels]


def rainbow(hue: npt.NDArray[np.floating], saturation: float, value: npt.NDArray[np.floating]) -> Floats:
    """Colours of shape (n, 3) from hues and values in 0..1."""
    phase = (hue[:, None] + np.array([0.0, 2 / 3, 1 / 3])) % 1.0
    ramp = np.clip(np.abs(phase * 6 - 3) - 1, 0, 1)
    return (value[:, None] * (1 - saturation + saturation * ramp)).astype(np.float32)  # type: ignore[no-any-return]


def disc(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v) - 1


def square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.85)


def triangle(u: Floats, v: Floats) -> Floats:
    side = np.abs(u) * np.float32(0.87) - v * np.float32(0.5) - np.float32(0.5)
    return np.maximum(v - np.float32(0.6), side)  # type: ignore[no-any-return]


def ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.75)) - np.float32(0.22)


def cross(u: Floats, v: Floats) -> Floats:
    a, b, thin = np.abs(u), np.abs(v), np.float32(0.28)
    return np.minimum(np.maximum(a - thin, b - 1), np.maximum(b - thin, a - 1))  # type: ignore[no-any-return]


def bar(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u) - 1, np.abs(v) - np.float32(0.3))  # type: ignore[no-any-return]


# The signed distance from each shape's edge, in units of its size, by the order of KINDS.
EDGES: tuple[Callable[[Floats, Floats], Floats], ...] = (disc, square, triangle, ring, cross, bar)


def smoothed(field: Floats, amount: float) -> Floats:
    """A blur of three by three, `amount` of the way."""
    for axis in (-1, -2):
        field = (1 - amount) * field + amount / 2 * (np.roll(field, 1, axis) + np.roll(field, -1, axis))
    return field.astype(np.float32)


class Painter:
    """Draws n pictures at once; every random number comes from one generator."""

    def __init__(self, generator: np.random.Generator, n: int, style: Style) -> None:
        self.random, self.n, self.style = generator, n, style
        at = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / (SIDE / 2)
        self.y, self.x = np.meshgrid(at, at, indexing="ij")
        self.factors: dict[str, Labels] = {}

    def background(self) -> Floats:
        """Textures between two colours of one hue: (n, 3, 32, 32)."""
        n, style, random = self.n, self.style, self.random
        kind = random.choice(style.textures, n)
        angle, frequency = random.integers(0, CLASSES["angle"], n), random.integers(0, CLASSES["frequency"], n)
        theta = (angle + random.uniform(-0.2, 0.2, n)) * np.pi / CLASSES["angle"]
        cycles = 0.8 * 1.55**frequency * random.uniform(0.93, 1.07, n)
        phase = random.uniform(0, 2 * np.pi, n)
        field = np.empty((n, SIDE, SIDE), np.float32)
        for texture in range(len(TEXTURES)):
            mine = np.flatnonzero(kind == texture)
            if len(mine):
                shape = (len(mine), 1, 1)
                turn, wave, shift = (
                    part[mine].astype(np.float32).reshape(shape) for part in (theta, np.pi * cycles, phase)
                )
                field[mine] = self.texture(texture, turn, wave, shift)
        hue = random.integers(0, CLASSES["backdrop"], n)
        value = random.uniform(0.25, 0.75, n)
        swing = style.contrast * random.uniform(0.4, 1.0, n)
        tone = rainbow(hue / CLASSES["backdrop"] + style.hue, style.saturation * 0.6, value)
        self.factors |= {"texture": kind, "angle": angle, "frequency": frequency, "backdrop": hue}
        return tone[:, :, None, None] * (1 + swing.astype(np.float32)[:, None, None, None] * field[:, None])

    def texture(self, kind: int, theta: Floats, wave: Floats, phase: Floats) -> Floats:
        """One field in -1..1 for each angle, wave number and phase."""
        u = self.x * np.cos(theta) + self.y * np.sin(theta)
        v = self.y * np.cos(theta) - self.x * np.sin(theta)
        if TEXTURES[kind] == "grating":
            return np.sin(wave * u + phase)  # type: ignore[no-any-return]
        if TEXTURES[kind] == "checker":
            return np.sign(np.sin(wave * u + phase) * np.sin(wave * v + phase))  # type: ignore[no-any-return]
        if TEXTURES[kind] == "gradient":
            return u.astype(np.float32)  # type: ignore[no-any-return]
        if TEXTURES[kind] == "rings":
            return np.sin(wave * np.sqrt(u * u + v * v) + phase)  # type: ignore[no-any-return]
        coarse = 8 if TEXTURES[kind] == "clouds" else SIDE
        cells = self.random.uniform(-1, 1, (len(theta), coarse, coarse)).astype(np.float32)
        large = cells.repeat(SIDE // coarse, 1).repeat(SIDE // coarse, 2)
        return smoothed(smoothed(large, 0.66), 0.66) if coarse < SIDE else large

    def shapes(self, canvas: Floats) -> None:
        """Draw the shapes over the canvas, the largest last, each near its own cell of a grid of three by three."""
        n, style, random = self.n, self.style, self.random
        count = random.integers(style.fewest, style.most + 1, n)
        kind = random.choice(style.kinds, (n, SLOTS))
        grade = random.integers(0, CLASSES["size"], n)
        largest = 0.28 + 0.09 * (grade + random.uniform(0.1, 0.9, n))
        sizes = largest[:, None] * random.uniform(0.4, 0.65, (n, SLOTS))
        sizes[:, 0] = largest
        cells = random.permuted(np.tile(np.arange(9), (n, 1)), axis=1)[:, :SLOTS]
        jitter = random.uniform(-1, 1, (2, n, SLOTS)) * style.spread * 0.3
        across, down = (cells % 3 - 1) * 0.6 + jitter[0], (cells // 3 - 1) * 0.6 + jitter[1]
        tilt = random.integers(0, CLASSES["tilt"], n)
        turns = random.uniform(-0.35, 0.35, (n, SLOTS)) if style.upright else random.uniform(0, 2 * np.pi, (n, SLOTS))
        if not style.upright:
            turns[:, 0] = (tilt + random.uniform(-0.2, 0.2, n)) * np.pi / CLASSES["tilt"]
        colour = random.integers(0, CLASSES["colour"], (n, SLOTS))
        value = random.uniform(0.75, 1.0, (n, SLOTS))
        for slot in reversed(range(SLOTS)):
            paint = rainbow(colour[:, slot] / CLASSES["colour"] + style.hue, style.saturation, value[:, slot])
            for number, edge in enumerate(EDGES):
                mine = np.flatnonzero((kind[:, slot] == number) & (count > slot))
                if not len(mine):
                    continue
                cx, cy, r, turn = (
                    part[mine, slot].astype(np.float32)[:, None, None] for part in (across, down, sizes, turns)
                )
                x, y = (self.x - cx) / r, (self.y - cy) / r
                inside = edge(x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn))
                mask = np.clip(0.5 - inside * r * (SIDE / 2), 0, 1)[:, None]
                canvas[mine] += mask * (paint[mine][:, :, None, None] - canvas[mine])
        dx, dy = across[:, 1] - across[:, 0], down[:, 1] - down[:, 0]
        sideways = np.abs(dx) > np.abs(dy)
        apart = np.searchsorted(np.array([0.75, 0.95, 1.3]), np.hypot(dx, dy))
        self.factors |= {
            "count": count - 1,
            "shape": kind[:, 0],
            "size": grade,
            "position": cells[:, 0],
            "tilt": tilt,
            "colour": colour[:, 0],
            "relation": np.where(sideways, dx > 0, 2 + (dy > 0)).astype(np.int64),
            "distance": apart.astype(np.int64),
        }

    def finish(self, canvas: Floats) -> npt.NDArray[np.uint8]:
        """Light from above, mirrors, brightness, blur and noise; then bytes."""
        n, style, random = self.n, self.style, self.random
        symmetry = random.integers(0, CLASSES["symmetry"], n) if style.mirrored else np.zeros(n, np.int64)
        half = SIDE // 2
        for bit, axis in ((1, 3), (2, 2)):
            mine = np.flatnonzero(symmetry & bit)
            picture = canvas[mine]
            kept = picture[:, :, :, :half] if axis == 3 else picture[:, :, :half]
            canvas[mine] = np.concatenate([kept, np.flip(kept, axis)], axis)
        light = style.light * random.uniform(0.3, 1, n).astype(np.float32)[:, None, None, None]
        canvas = canvas * (1 - light * self.y)
        grade = random.integers(0, CLASSES["brightness"], n)
        gain = 0.55 + 0.15 * (grade + random.uniform(0.1, 0.9, n))
        canvas = canvas * gain.astype(np.float32)[:, None, None, None]
        if style.blur:
            canvas = smoothed(canvas, style.blur)
        canvas = canvas + style.noise * random.standard_normal(canvas.shape, np.float32)
        self.factors |= {"symmetry": symmetry, "brightness": grade}
        return (np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def draw(generator: np.random.Generator, n: int, style: Style) -> Pictures:
    """n pictures of one style."""
    painter = Painter(generator, n, style)
    canvas = painter.background()
    painter.shapes(canvas)
    pixels = painter.finish(canvas)
    return Pictures(pixels, {name: factor.astype(np.int64) for name, factor in painter.factors.items()})
