"""The sets by name, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.vthr.remade import COPIED_TREES, remade_plan
from benchmarks.vthr.shelf import Plan
from benchmarks.vthr.splits import Setting, trained_plan

OF_FT = ("derived", "merges", "missing")
VISION = ("ft", "decay", "lora-v", "lora-f", "checkpoints", "derived", "merges", "partial", "missing", "seeds", "bf16")


def plan(setting: Setting, name: str, tree: str) -> Plan:
    """One tree of one set of Vision Transformers."""
    return remade_plan(setting, name, tree) if name in OF_FT else trained_plan(setting, name, tree)


def trees_of(name: str, trees: Sequence[str]) -> list[str]:
    """The trees of a set: copies without training are made of the first two alone."""
    return list(trees[:COPIED_TREES] if name == "derived" else trees)
