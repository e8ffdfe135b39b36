"""The sets whose models are trained: what each tree of them is made of, and by which recipes."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.vthr.datasets import DATASETS
from benchmarks.vthr.pretraining import CHECKPOINTS
from benchmarks.vthr.shelf import Node, Note, Plan, read_state
from benchmarks.vthr.tuning import Recipe, tuned
from benchmarks.vthr.vit import State

CHILDREN, RUN_STEPS, RUN_CHECKPOINTS = 4, 320, 8
RANKS = (8, 16, 32, 64)
Draw = Callable[[random.Random, str], Recipe]


@dataclass(frozen=True)
class Setting:
    """What every plan needs to know: the folder, the seed, and by how much all training is cut short."""

    to: Path
    seed: int
    scale: float = 1.0

    def checkpoint(self, tree: str, number: int) -> Path:
        return self.to / ".pretraining" / tree / f"{number:02d}.safetensors"

    def root(self, tree: str) -> Path:
        return self.checkpoint(tree, CHECKPOINTS - 1)


def rounded(state: State) -> State:
    return {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}


def tune(setting: Setting, recipe: Recipe, keep: Callable[[State], State], parents: list[State]) -> tuple[State, Note]:
    """The child of the only parent, and its recipe and accuracy."""
    states, right = tuned(parents[0], recipe, setting.seed, setting.scale)
    return keep(states[-1]), {**asdict(recipe), "accuracy": right}


def same(state: State) -> State:
    return state


def child(
    setting: Setting,
    key: str,
    parent: str,
    recipe: Recipe,
    relation: str = "finetune",
    keep: Callable[[State], State] = same,
) -> Node:
    make = functools.partial(tune, setting, recipe, keep)
    return Node(key, relation, ((parent, None),), make, cost=recipe.steps * setting.scale + 3)


def root_node(setting: Setting, tree: str) -> Node:
    """The pre-trained model; it is no child of anything."""
    return Node("root", "", source=setting.root(tree), stage="generalization", cost=0.1)


def other_data(chance: random.Random, parent: str) -> str:
    """A dataset that asks for something else than the parent's."""
    task = parent.rsplit("-", 1)[0]
    return chance.choice([name for name in DATASETS if name.rsplit("-", 1)[0] != task])


def full_recipe(chance: random.Random, data: str) -> Recipe:
    return Recipe(
        data,
        chance.randrange(2**31),
        rate=2e-4 * 2.5 ** chance.random(),
        decay=chance.choice((0.0, 1e-3, 1e-2)),
        steps=chance.choice((90, 100, 110)),
    )


def decayed_recipe(chance: random.Random, data: str) -> Recipe:
    return Recipe(data, chance.randrange(2**31), rate=6e-5 * 10 ** chance.random(), decay=0.1, steps=100)


def lora_recipe(chance: random.Random, data: str, ranks: tuple[int, ...]) -> Recipe:
    return Recipe(data, chance.randrange(2**31), method="lora", rate=5e-3, rank=chance.choice(ranks))


def family(setting: Setting, name: str, tree: str, draw: Draw, relation: str) -> list[Node]:
    """A root, four children and four children of each."""
    chance = random.Random(f"{setting.seed} {name} {tree}")
    keep = rounded if name == "bf16" else same
    nodes = [rounded_root(setting, tree) if name == "bf16" else root_node(setting, tree)]
    firsts = chance.sample(DATASETS, CHILDREN)
    for c, data in enumerate(firsts):
        nodes.append(child(setting, f"c{c}", "root", draw(chance, data), relation, keep))
        for g in range(CHILDREN):
            recipe = draw(chance, other_data(chance, data))
            nodes.append(child(setting, f"c{c}g{g}", f"c{c}", recipe, relation, keep))
    return nodes


def rounded_root(setting: Setting, tree: str) -> Node:
    def make(_: list[State]) -> tuple[State, Note]:
        return rounded(read_state(setting.root(tree))), {}

    return replace(root_node(setting, tree), source=None, make=make)


def run_of_checkpoints(setting: Setting, tree: str) -> Iterator[Node]:
    """Checkpoints along a pre-training, from its initialisation, and along one long fine-tuning from its end."""
    for at in range(CHECKPOINTS):
        parents = ((f"e{at - 1}", None),) if at else ()
        relation = "finetune" if at else ""
        source = setting.checkpoint(tree, at)
        yield Node(f"e{at}", relation, parents, source=source, stage="generalization", cost=0.1)
    chance = random.Random(f"{setting.seed} checkpoints {tree}")
    recipe = replace(full_recipe(chance, chance.choice(DATASETS)), steps=RUN_STEPS)
    made: list[State] = []

    def make(number: int, _: list[State]) -> tuple[State, Note]:
        if not made:
            root = read_state(setting.root(tree))
            states, right = tuned(root, recipe, setting.seed, setting.scale, RUN_CHECKPOINTS)
            made.extend(states)
            accuracy.append(right)
        return made[number], {**asdict(recipe), "accuracy": accuracy[0]}

    accuracy: list[float] = []
    for at in range(RUN_CHECKPOINTS):
        parents = ((f"f{at - 1}" if at else f"e{CHECKPOINTS - 1}", None),)
        cost = RUN_STEPS * setting.scale / RUN_CHECKPOINTS
        yield Node(f"f{at}", "finetune", parents, functools.partial(make, at), cost=cost)


def one_recipe_many_seeds(setting: Setting, tree: str) -> Iterator[Node]:
    """Three children that differ in nothing but the seed of their head and of their order of pictures."""
    chance = random.Random(f"{setting.seed} seeds {tree}")
    recipe = full_recipe(chance, chance.choice(DATASETS))
    yield root_node(setting, tree)
    for at in range(3):
        yield child(setting, f"s{at}", "root", replace(recipe, seed=chance.randrange(2**31)))


def partly_trained(setting: Setting, tree: str) -> Iterator[Node]:
    """Children with most layers frozen, a full one beside them, and a child of a frozen one."""
    chance = random.Random(f"{setting.seed} partial {tree}")
    yield root_node(setting, tree)
    rates = {"upper": 4e-4, "last": 6e-4, "bitfit": 4e-3, "attention": 5e-4, "full": 3e-4}
    data = chance.sample(DATASETS, len(rates))
    for (method, rate), name in zip(rates.items(), data, strict=True):
        recipe = replace(full_recipe(chance, name), method=method, rate=rate)
        yield child(setting, method, "root", recipe, "finetune" if method == "full" else "partial")
    recipe = replace(full_recipe(chance, other_data(chance, data[0])), method="last", rate=rates["last"])
    yield child(setting, "grandchild", "upper", recipe, "partial")


def trained_plan(setting: Setting, name: str, tree: str) -> Plan:
    """One tree of a set whose models are trained."""
    draws: dict[str, tuple[Draw, str]] = {
        "ft": (full_recipe, "finetune"),
        "bf16": (full_recipe, "finetune"),
        "decay": (decayed_recipe, "finetune"),
        "lora-v": (functools.partial(lora_recipe, ranks=RANKS), "lora"),
        "lora-f": (functools.partial(lora_recipe, ranks=(16,)), "lora"),
    }
    others: dict[str, Callable[[Setting, str], Iterator[Node]]] = {
        "checkpoints": run_of_checkpoints,
        "seeds": one_recipe_many_seeds,
        "partial": partly_trained,
    }
    nodes = family(setting, name, tree, *draws[name]) if name in draws else list(others[name](setting, tree))
    return Plan(name, tree, setting.seed, tuple(nodes))
