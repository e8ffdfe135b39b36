"""The sets that are made of the models of `ft`: copies without training, merges, and the set with ancestors missing."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.vthr import merging
from benchmarks.vthr.copies import COPIES
from benchmarks.vthr.datasets import DATASETS
from benchmarks.vthr.pretraining import WAYS
from benchmarks.vthr.shelf import Node, Note, Plan, read_state
from benchmarks.vthr.splits import CHILDREN, Setting, child, full_recipe, trained_plan
from benchmarks.vthr.vit import State

# How many trees have copies, and from which tree on the root is missing as well.
COPIED_TREES, ROOTLESS_FROM = 2, 3
COPIED = ("root", "c0", "c2")


@dataclass(frozen=True)
class Blend:
    """A merge of siblings, the largest share first; `knob` is SLERP's place, TIES's density or DARE's share dropped."""

    method: str
    parents: tuple[int, ...]
    shares: tuple[float, ...]
    knob: float = 0.0
    head: bool = False


BLENDS = {
    "linear-two": Blend("linear", (0, 1), (0.7, 0.3)),
    "linear-close": Blend("linear", (2, 1), (0.55, 0.45), head=True),
    "linear-three": Blend("linear", (3, 0, 2), (0.5, 0.3, 0.2)),
    "task-two": Blend("task_arithmetic", (1, 3), (0.8, 0.4), head=True),
    "task-three": Blend("task_arithmetic", (2, 0, 1), (0.6, 0.4, 0.3)),
    "slerp-far": Blend("slerp", (3, 2), (0.7, 0.3), 0.3),
    "slerp-close": Blend("slerp", (0, 3), (0.6, 0.4), 0.4, head=True),
    "ties-two": Blend("ties", (1, 0), (0.6, 0.4), 0.5),
    "ties-three": Blend("ties", (2, 3, 1), (0.5, 0.3, 0.2), 0.3, head=True),
    "ties-thin": Blend("ties", (0, 2), (0.7, 0.3), 0.2),
    "dare-half": Blend("dare", (3, 1), (0.6, 0.4), 0.5),
    "dare-most": Blend("dare", (2, 0), (0.7, 0.5), 0.8, head=True),
}


def blended(blend: Blend, base: State, seed: int, parents: list[State]) -> tuple[State, Note]:
    """The merge, and what it was made by."""
    generator = torch.Generator().manual_seed(seed)

    def merge(start: torch.Tensor, models: Sequence[torch.Tensor]) -> torch.Tensor:
        if blend.method == "slerp":
            return merging.slerp(models[0], models[1], blend.knob)
        if blend.method == "linear":
            return merging.linear(models, blend.shares)
        if blend.method == "task_arithmetic":
            return merging.task_arithmetic(start, models, blend.shares)
        if blend.method == "ties":
            return merging.ties(start, models, blend.shares, blend.knob)
        return merging.dare(start, models, blend.shares, blend.knob, generator)

    return merging.merged(parents, base, blend.head, merge), {
        "method": blend.method,
        "shares": blend.shares,
        "knob": blend.knob,
        "head": blend.head,
    }


def merges(setting: Setting, taken: Plan, seed: int) -> Iterator[Node]:
    """Twelve merges of the children, one of which is tuned on."""

    def make(blend: Blend, number: int, parents: list[State]) -> tuple[State, Note]:
        return blended(blend, read_state(setting.root(taken.tree)), seed + number, parents)

    for number, (key, blend) in enumerate(BLENDS.items()):
        parents = tuple((f"c{c}", share) for c, share in zip(blend.parents, blend.shares, strict=True))
        yield Node(key, "merge", parents, functools.partial(make, blend, number))
    chance = random.Random(f"{setting.seed} merges {taken.tree} tuned")
    yield child(setting, "tuned", "linear-two", full_recipe(chance, chance.choice(DATASETS)))


def copies(keys: Sequence[str]) -> Iterator[Node]:
    """Every kind of copy of each of these models."""

    def make(name: str, parents: list[State]) -> tuple[State, Note]:
        return COPIES[name][1](parents[0]), {"method": name}

    for key in keys:
        for name, (relation, _) in COPIES.items():
            yield Node(f"{key} {name}", relation, ((key, None),), functools.partial(make, name))


def remade_plan(setting: Setting, name: str, tree: str) -> Plan:
    """One tree of a set that is made of the tree of `ft`."""
    taken = trained_plan(setting, "ft", tree)
    sources = {
        node.key: replace(node, make=None, source=taken.path(setting.to, node.key), cost=0.1) for node in taken.nodes
    }
    at = list(WAYS).index(tree)
    if name == "missing":
        gone = {f"c{c}" for c in random.Random(f"{setting.seed} missing {tree}").sample(range(CHILDREN), 2)}
        if at >= ROOTLESS_FROM:
            gone.add("root")
        nodes = tuple(replace(node, absent=node.key in gone) for node in sources.values())
        return Plan(name, tree, setting.seed, nodes, named="ft")
    kept = ["root", *(f"c{c}" for c in range(CHILDREN))]
    if name == "merges":
        kept += ["c0g0", "c0g1", "c2g0", "c2g1"]
    made = copies(COPIED) if name == "derived" else merges(setting, taken, setting.seed * 1000 + at * 100)
    return Plan(name, tree, setting.seed, (*(sources[key] for key in kept), *made))
