"""Families grown by the model of training that the methods assume: no learning, all the geometry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crawl.architecture import architecture_key, backbone, role
from crawl.plan import make_plan
from crawl.sketch import sketch_array
from indexer.family import Family
from indexer.from_sketches import make_family
from indexer.solve import solve_component, split
from store.format import SketchFormat
from tests.weights import Weights

__all__ = ["directed_accuracy", "family_of", "grow", "parents_of", "start"]

FORM = SketchFormat(projection=32)
NAMES = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "|i1": "I8", "<i8": "I64"}


def start(seed: int, layers: int = 6, width: int = 96) -> Weights:
    """A root: layers of differing size and scale."""
    rng = np.random.default_rng(seed)
    return {
        f"layers.{i}.weight": (rng.standard_normal((width, width + 8 * i)) * 0.05 * (1 + i / 4)).astype(np.float32)
        for i in range(layers)
    }


def grow(parent: Weights, seed: int, step: float = 0.1, decay: float = 0.0, drift: Weights | None = None) -> Weights:
    """(1 - decay) parent + noise of `step` times a layer's size, uneven over layers, + a drift that siblings share."""
    rng = np.random.default_rng(seed)
    child = {}
    for name, w in parent.items():
        size = step * float(np.std(w)) * rng.uniform(0.4, 1.6)
        moved = (1 - decay) * w + size * rng.standard_normal(w.shape)
        child[name] = (moved + (0 if drift is None else drift[name])).astype(w.dtype)
    return child


def heavy_tailed() -> Weights:
    """Four square layers of Student's t values: as Gaussian steps are added, kurtosis falls, as in specialization."""
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": (rng.standard_t(4, (64, 64)) * 0.05).astype(np.float32) for i in range(4)}


def specialized() -> dict[str, Weights]:
    """A heavy-tailed root, three children and a grandchild each; all layers are small and kept whole."""
    models = {"root": heavy_tailed()}
    for c in range(3):
        models[f"c{c}"] = grow(models["root"], c, 0.3)
        models[f"c{c}-g"] = grow(models[f"c{c}"], 10 + c, 0.25)
    return models


def family_of(models: Mapping[str, Weights]) -> Family:
    """The family of models of one architecture, sketched as a crawl does it, in the order of names."""
    rows = []
    for at, name in enumerate(sorted(models)):
        weights = models[name]
        shapes = {tensor: w.shape for tensor, w in weights.items()}
        plan = make_plan(shapes, FORM)
        sketches = [
            sketch_array(w, NAMES[w.dtype.str], tensor=tensor, plan=plan.tensors[tensor], form=FORM)
            for tensor, w in sorted(weights.items())
        ]
        content = b"".join(sketch.content_hash for sketch in sketches).hex()
        rows.append((at + 1, name, content, float("nan"), sketches))
    shapes = {tensor: w.shape for tensor, w in next(iter(models.values())).items()}
    return make_family(architecture_key(shapes), rows, {name: role(name, shapes[name]) for name in backbone(shapes)})


def parents_of(family: Family) -> dict[str, tuple[str, str]]:
    """Child -> (parent, relation), as an update finds them, inferred ancestors included."""
    names = dict(zip(family.model_ids.tolist(), family.names, strict=True))
    found = [solve_component(family.take(part)) for part in split(family)]
    names |= {node.inferred_id: node.name for component in found for node in component.inferred}
    return {
        names[edge.child_id]: (names[edge.parent_id], edge.relation) for component in found for edge in component.edges
    }


def directed_accuracy(family: Family, truth: Mapping[str, str]) -> float:
    """Share of (child, parent) in `truth` that is found, direction included: the paper's metric."""
    found = parents_of(family)
    return sum(found.get(child, ("", ""))[0] == parent for child, parent in truth.items()) / len(truth)
