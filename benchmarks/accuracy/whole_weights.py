"""One set of models with their true parents, and their family twice: as the sketches see it, and from whole weights.

A family of whole weights is made by the code that makes any other, from sketches whose samples are all values of a
weight (in the order of storage) and whose projections are the value layers themselves: the maximum of equation 1 is
over every weight, and the rank of equation 2 is that of the whole difference. No graph is written.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawl.folder import FolderSource
from crawl.model_sketch import sketch_model
from crawl.readers import Readers
from crawl.shards import model_tensors
from crawl.source import ModelRef
from indexer.family import Family, make_family
from indexer.paper import layer_kind
from store.dtypes import DTYPES
from store.errors import StopError
from store.records import Model, TensorSketch

__all__ = ["ModelSet", "Truth", "read_set", "sketch_family", "whole_family"]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of n models, in the order of a set."""

    tree: tuple[str, ...]
    parent: NDArray[np.int64]
    """n: the row of the parent, -1 for a root."""
    generalization: NDArray[np.bool_]
    """n: whether a model was trained from its parent in the generalization stage; roots count as specialization, as all
    models of the paper's section 6.1 do."""
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
    truth: Truth


def read_set(folder: Path) -> ModelSet:
    """Sketch every model below `folder` and read `folder/truth.csv` (child, parent, relation, stage, tree, ...).

    Raises StopError when a model of the truth is not there or is of another architecture.
    """
    with (folder / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    source = FolderSource(folder)
    refs = {ref.name: ref for ref in source.models() if isinstance(ref, ModelRef)}
    missing = sorted({row["child"] for row in rows} - set(refs))
    if missing:
        raise StopError(f"{folder}: expected the models that truth.csv names, {len(missing)} are missing: {missing[0]}")
    with ThreadPoolExecutor(2, thread_name_prefix="sketch") as pool:
        sketched = list(pool.map(lambda row: sketch_model(source, refs[row["child"]], budget=0), rows))
    architectures = {found.model.architecture for found in sketched}
    if len(architectures) > 1:
        raise StopError(f"{folder}: expected models of one architecture, found {len(architectures)}")
    order = sorted(range(len(rows)), key=lambda at: (sketched[at].model.content_hash, rows[at]["child"]))
    place = {rows[at]["child"]: new for new, at in enumerate(order)}
    truth = Truth(
        tuple(rows[at]["tree"] for at in order),
        np.array([place.get(rows[at]["parent"], -1) for at in order], np.int64),
        np.array([bool(rows[at]["parent"]) and rows[at]["stage"] == "generalization" for at in order]),
        {row["relation"] for row in rows if row["parent"]} == {"lora"},
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
