"""A synthetic Hub as models with sketches, written to a graph by the project's own writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import ml_dtypes
import numpy as np
from blake3 import blake3

from benchmarks.scale.forest import Forest, grow_forest, model_name
from benchmarks.scale.shapes import shaped_forest
from benchmarks.scale.weights import Weights, WeightsOf, make_shapes
from crawl.architecture import architecture_key, backbone, canonical_names, role
from crawl.model_sketch import Backbone
from crawl.plan import Plan, make_plan
from crawl.sketch import sketch_array
from store.format import SketchFormat
from store.progress import Progress
from store.records import Model, TensorSketch
from store.writer import GraphWriter

__all__ = ["SOURCE", "SyntheticHub", "form_of"]

_SMALL: Final = SketchFormat(outliers=64, projection=8)
"""As by default, but sized for small models: 8 x 8 projections (of three tensors), 8 outliers a tensor."""
SOURCE: Final = "hub:synthetic"
_FIRST_UPLOAD: Final = datetime(2022, 1, 1, tzinfo=UTC)
_SPAN: Final = timedelta(days=4 * 365.25)
"""In which all models were uploaded, however many they are: a million is one every two minutes, as on the Hub."""
_MOVED: Final = 0.0027
"""Share of models that were uploaded again long after, so that their date misleads (as on the Hub)."""
_BATCH: Final = 2_000
_DTYPES: Final = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(ml_dtypes.float8_e4m3fn): "F8_E4M3",
}


def form_of(full_size: bool) -> SketchFormat:
    """What sketches are made by."""
    return SketchFormat() if full_size else _SMALL


@dataclass(frozen=True, slots=True)
class _Architecture:
    key: str
    plan: Plan
    canonical: dict[str, str]
    backbone: Backbone


@cache
def _architecture(place: int, full_size: bool) -> _Architecture:
    named = make_shapes(place, full_size)
    canonical = canonical_names(named)
    shapes = {canonical[name]: shape for name, shape in named.items()}
    members = tuple((n, shapes[n], int(np.prod(shapes[n])), role(n, shapes[n])) for n in backbone(shapes))
    return _Architecture(architecture_key(shapes), make_plan(shapes, form_of(full_size)), canonical, members)


class SyntheticHub:
    """`models` models and the forest that they descend in; of `full_size`, their sketches are as large as any.

    With a `shape` (`benchmarks.scale.shapes`) the forest is another than a Hub's.
    """

    def __init__(self, models: int, seed: int = 0, full_size: bool = False, shape: str | None = None) -> None:
        self.seed = seed
        self.full_size = full_size
        self.forest: Forest = grow_forest(models, seed) if shape is None else shaped_forest(shape, models, seed)
        self._weights = WeightsOf(self.forest, seed, full_size)

    def name(self, index: int) -> str:
        """Name of a model by its place in the forest."""
        return model_name(index, self.seed)

    def _uploaded(self, index: int) -> datetime:
        at = index
        rng = np.random.default_rng([self.seed, 11, index])
        if rng.random() < _MOVED:
            at = int(rng.integers(index, len(self.forest) + 1))
        return _FIRST_UPLOAD + at / len(self.forest) * _SPAN

    def model(self, index: int) -> Model:
        """One model with its sketches."""
        weights = self._weights(index)
        place = self._architecture(index)
        sketches = _sketches(place, weights, form_of(self.full_size))
        digest = blake3(b"".join(s.tensor.encode() + s.dtype.encode() + s.content_hash for s in sketches))
        size = sum(w.nbytes for w in weights.values())
        return Model(
            name=self.name(index),
            revision="1",
            source=SOURCE,
            architecture=place.key,
            dtype=sketches[0].dtype,
            tensors=len(sketches),
            parameters=sum(s.elements for s in sketches),
            bytes_total=size,
            bytes_read=size,
            content_hash=digest.hexdigest(length=16),
            created_at=self._uploaded(index),
            modified_at=None,
            sketches=sketches,
        )

    def roles(self, index: int) -> dict[str, str]:
        """Tensor -> role, of what counts as the backbone of a model's architecture."""
        return {tensor: role for tensor, *_, role in self._architecture(index).backbone}

    def _architecture(self, index: int) -> _Architecture:
        return _architecture(int(self.forest.architecture[index]), self.full_size)

    def write(self, writer: GraphWriter, indices: Sequence[int], progress: Progress) -> None:
        """Add models to a graph; those that it holds already (of a run that was stopped) are passed over."""
        known = writer.known()
        missing = [i for i in indices if self.name(i) not in known]
        progress.start("writing sketches", len(indices))
        progress.advance(len(indices) - len(missing), "")
        for batch in _batches(missing):
            models = [self.model(i) for i in batch]
            writer.add(models, (), {place.key: place.backbone for place in map(self._architecture, batch)})
            progress.advance(len(batch), models[-1].name)
        progress.finish()


def _batches(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]


def _sketches(place: _Architecture, weights: Weights, form: SketchFormat) -> tuple[TensorSketch, ...]:
    sketches = [
        sketch_array(
            array,
            _DTYPES[array.dtype],
            tensor=place.canonical[name],
            plan=place.plan.tensors[place.canonical[name]],
            form=form,
        )
        for name, array in weights.items()
    ]
    return tuple(sorted(sketches, key=lambda sketch: sketch.tensor))
