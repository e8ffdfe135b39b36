"""One set of models with their true parents, and their family twice: as the sketches see it, and from whole weights.

A family of whole weights is made by the code that makes any other, from sketches whose samples are all values of a
weight (in the order of storage) and whose projections are the value layers themselves: the maximum of equation 1 is
over every weight, and the rank of equation 2 is that of the whole difference. No graph is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.truth import generalizing, read_truth
from crawl.folder import FolderSource
from crawl.model_sketch import sketch_model
from crawl.readers import Readers
from crawl.shards import model_tensors
from crawl.source import ModelRef
from indexer.family import Family
from indexer.from_sketches import make_family
from indexer.paper import layer_kind
from store.dtypes import DTYPES
from store.errors import StopError
from store.records import Model, TensorSketch

__all__ = ["Descent", "ModelSet", "read_set", "sketch_family", "whole_family"]


@dataclass(frozen=True, slots=True)
class Descent:
    """What is true of n models, and what of it the paper is told; in the order of a set."""

    tree: tuple[str, ...]
    parent: NDArray[np.int64]
    """n: the row of the parent, -1 for a root."""
    generalization: NDArray[np.bool_]
    """n: T of equation 5, roots labelled as their children are."""
    lora: bool
    """Whether every child was tuned by LoRA: the paper is told."""


@dataclass(frozen=True, slots=True)
class ModelSet:
    """One set of VTHR: its models in the order of their content hashes (so that ties are not broken by telling names),
    and the truth about them."""

    split: str
    folder: Path
    models: tuple[Model, ...]
    roles: Mapping[str, str]
    """Tensor of the backbone -> role."""
    truth: Descent


def read_set(folder: Path) -> ModelSet:
    """Sketch every model below `folder` and read `folder/truth.csv`, in which every model has one parent or none.

    Raises StopError when a model of the truth is not there or is of another architecture.
    """
    source = FolderSource(folder)
    refs = {ref.name: ref for ref in source.models() if isinstance(ref, ModelRef)}
    known = read_truth(folder, refs)
    names = known.models
    with ThreadPoolExecutor(2, thread_name_prefix="sketch") as pool:
        sketched = list(pool.map(lambda name: sketch_model(source, refs[name], budget=0), names))
    architectures = {found.model.architecture for found in sketched}
    if len(architectures) > 1:
        raise StopError(f"{folder}: expected models of one architecture, found {len(architectures)}")
    order = sorted(range(len(names)), key=lambda at: (sketched[at].model.content_hash, names[at]))
    place = {names[at]: new for new, at in enumerate(order)}
    up = {child: min(parents) for child, parents in known.parents.items()}
    told = generalizing(known)
    truth = Descent(
        tuple(known.tree.get(names[at], "") for at in order),
        np.array([place[up[names[at]]] if names[at] in up else -1 for at in order], np.int64),
        np.array([names[at] in told for at in order]),
        {known.relation.get(child) for child in known.parents} == {"lora"},
    )
    roles = {name: role for name, _, _, role in sketched[0].backbone}
    return ModelSet(folder.name, folder, tuple(sketched[at].model for at in order), roles, truth)


def sketch_family(models: ModelSet) -> Family:
    """The family as a graph holds it."""
    return _family(models, [model.sketches for model in models.models])


def whole_family(models: ModelSet) -> Family:
    """The family from whole weights: 8 bytes a weight and model in memory."""
    source = FolderSource(models.folder)
    refs = {ref.name: ref for ref in source.models() if isinstance(ref, ModelRef)}
    kinds = {layer_kind(name) for name, role in models.roles.items() if role == "weight"}
    with ThreadPoolExecutor(2, thread_name_prefix="read") as pool:
        whole = pool.map(lambda m: _whole_sketches(source, refs[m.name], m, models.roles, kinds), models.models)
        return _family(models, list(whole))


def _family(models: ModelSet, sketches: Sequence[Sequence[TensorSketch]]) -> Family:
    rows = [
        (at + 1, model.name, model.content_hash, float("nan"), found)
        for at, (model, found) in enumerate(zip(models.models, sketches, strict=True))
    ]
    return make_family(models.models[0].architecture, rows, models.roles)


def _whole_sketches(
    source: FolderSource, ref: ModelRef, model: Model, roles: Mapping[str, str], kinds: set[str]
) -> list[TensorSketch]:
    weights = {sketch.source_name: sketch for sketch in model.sketches if roles.get(sketch.tensor) == "weight"}
    whole = []
    with closing(Readers(source, ref)) as readers:
        for file, entry in model_tensors(source, ref, open_file=readers):
            if entry.name in weights:
                stored = bytearray(entry.stop - entry.start)
                readers(file).read_into(entry.start, memoryview(stored))
                whole.append(_whole_sketch(weights[entry.name], bytes(stored), kinds))
    return whole


def _whole_sketch(sketch: TensorSketch, stored: bytes, kinds: set[str]) -> TensorSketch:
    """A sketch that keeps every value, and of a value layer (of any layer, where there is none) the matrix."""
    ranked = len(sketch.shape) == 2 and ("value" not in kinds or layer_kind(sketch.tensor) == "value")
    if not ranked:
        return replace(sketch, samples=stored, projection=np.empty(0, np.float32))
    square = np.zeros((max(sketch.shape), max(sketch.shape)), np.float32)
    square[: sketch.shape[0], : sketch.shape[1]] = np.frombuffer(stored, DTYPES[sketch.dtype]).reshape(sketch.shape)
    return replace(sketch, samples=stored, projection=square.reshape(-1))
