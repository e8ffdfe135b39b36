"""A VTHR small enough for a test: two trees a set, of layers that are named as Hugging Face names a ViT's."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.weights import Weights, save

__all__ = ["WIDTH", "full", "lora", "write_set", "write_vthr"]

WIDTH = 128
Child = Callable[[Weights, np.random.Generator], Weights]


def _root(rng: np.random.Generator) -> Weights:
    """Heavy tails, so that kurtosis falls as Gaussian steps are added."""
    kinds = ("attention.attention.query", "attention.attention.key", "attention.attention.value", "output.dense")
    return {
        f"encoder.layer.{at}.{kind}.weight": (0.05 * rng.standard_t(5, (WIDTH, WIDTH))).astype(np.float32)
        for at in range(2)
        for kind in kinds
    }


def full(parent: Weights, rng: np.random.Generator) -> Weights:
    return {name: (w + 0.005 * rng.standard_normal(w.shape)).astype(np.float32) for name, w in parent.items()}


def lora(parent: Weights, rng: np.random.Generator) -> Weights:
    child = dict(parent)
    for name in parent:
        if "query" in name or "value" in name:
            step = 0.01 * rng.standard_normal((WIDTH, 8)) @ rng.standard_normal((8, WIDTH))
            child[name] = (parent[name] + step).astype(np.float32)
    return child


def write_set(folder: Path, parents: list[int], child: Child, relation: str, stages: str = "") -> Path:
    """Two trees of the shape of `parents` (-1: a root) with truth.csv; `stages` has a g for each generalization.

    A root says generalization of itself, as a foundation model does.
    """
    rows = [("child", "parent", "relation", "stage", "tree", "coefficient")]
    for tree in ("one", "two"):
        rng = np.random.default_rng([len(tree), ord(tree[0])])
        models: list[Weights] = []
        for at, up in enumerate(parents):
            models.append(_root(rng) if up < 0 else child(models[up], rng))
            save(folder / tree / f"m{at}", models[-1])
            if up < 0:
                rows.append((f"{tree}/m{at}", "", "", "generalization", tree, ""))
            else:
                stage = "generalization" if stages[at : at + 1] == "g" else "specialization"
                rows.append((f"{tree}/m{at}", f"{tree}/m{up}", relation, stage, tree, ""))
    with (folder / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def write_vthr(data: Path) -> Path:
    """`data`/vthr/seed-1 with one set of each kind that the paper's tables are made of."""
    root = data / "vthr" / "seed-1"
    write_set(root / "ft", [-1, 0, 0, 1, 1, 2], full, "finetune")
    write_set(root / "lora-v", [-1, 0, 0, 1, 1, 2], lora, "lora")
    write_set(root / "seeds", [-1, 0, 0, 0], full, "finetune")
    write_set(root / "checkpoints", [-1, 0, 1, 2, 3, 4], full, "finetune", " ggsss")
    return root
