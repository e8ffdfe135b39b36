"""The probe plan: which coordinates of which tensors a sketch keeps. A pure function of names and shapes.

Two models compare only on coordinates that both kept. The positions sampled in a tensor depend on nothing but its
number of elements and the seed, and form one fixed sequence of which each plan takes a prefix. So two models of
different heads, whose budgets are spread differently, still share the shorter prefix of every tensor.

A large tensor is probed: the sketch describes one run of its values, where all its samples lie too. Which run depends
on the backbone's shapes alone, neither on the budget nor on who reads, so a budget decides which tensors are read and
never what their sketches say.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crawl.architecture import backbone, role
from store.format import SketchFormat
from store.positions import LARGE, WINDOW, mix, window_start

__all__ = ["Plan", "TensorPlan", "make_plan", "signs", "within_budget"]


MOST_COLUMNS: Final = 1 << 19
"""Columns of a matrix that is projected: 64 sums in float64 are kept of each. The largest vocabularies have half."""

_REMEMBERED: Final = 10_000
"""Tensors of a model whose plan is remembered: many small models are of few architectures."""


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """What the sketch of one tensor keeps: numbers of samples and outliers, and the projection's k (0 = none).

    `run` is what it describes: the values at flat positions from its first number up to its second, None for all.
    """

    samples: int
    outliers: int
    projection: int
    run: tuple[int, int] | None = None

    def covered(self, elements: int) -> int:
        """Values that the sketch describes, of a tensor of so many."""
        return elements if self.run is None else self.run[1] - self.run[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """The probe plan of one model, keyed by canonical tensor name."""

    format: SketchFormat
    tensors: Mapping[str, TensorPlan]


@lru_cache(maxsize=256)
def signs(length: int, axis: int, seed: int) -> NDArray[np.float64]:
    """Seeded +1 or -1 for each index of an axis, float64, read-only: the non-zeros of a projection."""
    bits = mix(np.arange(length, dtype=np.uint64), seed * 7_368_787 + 2 * length + axis) >> np.uint64(63)
    result = 1.0 - 2.0 * bits.astype(np.float64)
    result.setflags(write=False)
    return result


def make_plan(shapes: Mapping[str, tuple[int, ...]], form: SketchFormat) -> Plan:
    """The plan for a model with these canonical names and shapes. Buffers get no samples."""
    if len(shapes) > _REMEMBERED:
        return _make_plan(shapes, form)
    return _known_plan(tuple(shapes.items()), form)


@lru_cache(maxsize=64)
def _known_plan(shapes: tuple[tuple[str, tuple[int, ...]], ...], form: SketchFormat) -> Plan:
    return _make_plan(dict(shapes), form)


def _make_plan(shapes: Mapping[str, tuple[int, ...]], form: SketchFormat) -> Plan:
    elements = {name: math.prod(shape) for name, shape in shapes.items()}
    sampled = [name for name, shape in shapes.items() if role(name, shape) != "buffer" and elements[name] > 0]
    # The backbone's share is spread over the backbone alone: all models of one architecture keep the same coordinates.
    body = set(backbone(shapes))
    inside = {name: elements[name] for name in sampled if name in body}
    outside = {name: elements[name] for name in sampled if name not in body}
    samples = _spread(inside, form.samples * 7 // 8, form) | _spread(outside, form.samples // 8, form)
    projected = _projected(shapes, form)
    runs = _runs(shapes, [name for name in inside if elements[name] > LARGE], projected, form)
    outliers = max(1, min(64, form.outliers // max(1, len(inside))))
    return Plan(
        form,
        {
            name: TensorPlan(
                samples=samples.get(name, 0),
                outliers=min(outliers, elements[name]) if name in samples else 0,
                projection=form.projection if name in projected else 0,
                run=runs.get(name),
            )
            for name in shapes
        },
    )


def _runs(
    shapes: Mapping[str, tuple[int, ...]], probed: Sequence[str], projected: Collection[str], form: SketchFormat
) -> dict[str, tuple[int, int]]:
    """The run of values that stands for each tensor of more than LARGE elements; it holds the window of its samples.

    The `probed` ones, of the backbone, share what `form.probe` allows: a model of any size costs about the same. A
    projection's run is of whole rows: those of a difference of rank r have rank r, if they are more than its k.
    """
    share = form.probe // max(1, len(probed)) // WINDOW * WINDOW
    runs = {}
    for name, shape in shapes.items():
        elements = math.prod(shape)
        if elements <= LARGE:
            continue
        start = window_start(elements, form.seed)
        length = max(WINDOW, min(share, LARGE)) if name in probed else WINDOW
        if name in projected:
            rows, columns = shape
            count = min(rows, max(2 * form.projection, WINDOW // columns + 2))
            start = min(start // columns, rows - count) * columns
            length = count * columns
        # Near the end, a run of more than a window begins before it.
        start = min(start, elements - length)
        runs[name] = (start, start + length)
    return runs


def _spread(elements: Mapping[str, int], budget: int, form: SketchFormat) -> dict[str, int]:
    """Samples in proportion to sqrt(elements), with a floor, filled up where small tensors leave a remainder.

    Against spreading in proportion to elements this loses a third of the effective sample size on BERT and keeps
    every layer measurable, which the per-layer cues need.
    """
    if not elements:
        return {}
    floor = min(form.least_samples, max(1, budget // len(elements)))
    low, high = 0.0, float(budget)
    most = {name: n if n <= LARGE else WINDOW for name, n in elements.items()}

    def given(scale: float) -> dict[str, int]:
        return {name: min(most[name], max(floor, int(scale * math.sqrt(n)))) for name, n in elements.items()}

    if sum(most.values()) <= budget:
        return most
    for _ in range(60):
        middle = (low + high) / 2
        if sum(given(middle).values()) <= budget:
            low = middle
        else:
            high = middle
    return given(low)


_PREFERRED: Final = (
    re.compile(r"(v_proj|value|to_v|\.v\.|qkv|c_attn|query_key_value|in_proj|Wqkv)"),
    re.compile(r"(q_proj|query|to_q|\.q\.)"),
)


def _projected(shapes: Mapping[str, tuple[int, ...]], form: SketchFormat) -> set[str]:
    """The tensors whose differences should have their rank measured: those that LoRA tunes first, at middle depth."""
    by_role: dict[str, list[str]] = defaultdict(list)
    for name in backbone(shapes):
        shape = shapes[name]
        if len(shape) == 2 and min(shape) >= 2 * form.projection and shape[1] <= MOST_COLUMNS:
            by_role[re.sub(r"\d+", "*", name)].append(name)

    def preference(entry: str) -> tuple[int, int, str]:
        for rank, pattern in enumerate(_PREFERRED):
            if pattern.search(entry):
                return rank, -len(by_role[entry]), entry
        return len(_PREFERRED), -len(by_role[entry]), entry

    roles = sorted(by_role, key=preference)
    if not roles:
        return set()
    chosen: list[str] = []
    turn = 0
    while len(chosen) < form.projections and any(by_role.values()):
        names = sorted(by_role[roles[turn % len(roles)]], key=_natural)
        if names:
            pick = names[len(names) // 2]
            by_role[roles[turn % len(roles)]].remove(pick)
            chosen.append(pick)
        turn += 1
    return set(chosen)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def within_budget(sizes: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], budget: int) -> set[str]:
    """The tensors to read when a model may cost `budget` bytes (0 = no limit), by canonical name.

    Chosen evenly over depth and over roles: roles take turns, and each role gives its middle, then its quarter points.
    `sizes` are what reading each tensor costs, its run where it is probed. They must not depend on what is stored
    (values x 4, say), so that a float32 and a bfloat16 copy of one model are probed alike.
    """
    if budget <= 0 or sum(sizes.values()) <= budget:
        return set(sizes)
    members = set(backbone(shapes))
    queues: dict[str, list[str]] = defaultdict(list)
    for name in sorted(sizes, key=_natural):
        prefix = "" if name in members else "~"
        queues[prefix + re.sub(r"\d+", "*", name)].append(name)
    order = {entry: _bisected(names) for entry, names in queues.items()}
    chosen: set[str] = set()
    left = budget
    # Backbone roles first (they sort before "~"), so that heads and embeddings take only what is left.
    for outside in (False, True):
        turns = [order[entry] for entry in sorted(order) if entry.startswith("~") is outside]
        depth = 0
        # Those that have no more leave: thousands of roles of one tensor beside one of thousands cost no square.
        while turns := [names for names in turns if depth < len(names)]:
            for names in turns:
                if sizes[names[depth]] <= left:
                    chosen.add(names[depth])
                    left -= sizes[names[depth]]
            depth += 1
    return chosen


def _bisected(names: list[str]) -> list[str]:
    """Middle first, then the middles of the halves, and so on: any prefix is spread evenly over depth."""
    result: list[str] = []
    spans = deque([(0, len(names))])
    while spans:
        start, stop = spans.popleft()
        if start < stop:
            middle = (start + stop) // 2
            result.append(names[middle])
            spans += ((start, middle), (middle + 1, stop))
    return result
