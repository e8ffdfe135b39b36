"""What a file of vectors holds of some models, copied out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.vectors import Vectors, has_layout, mapped_vectors

__all__ = ["read_vectors"]


def read_vectors(
    path: Path, layout: Mapping[str, int], model_ids: NDArray[np.int64], contents: NDArray[np.uint64]
) -> Vectors | None:
    """The vectors of those models (ids in rising order) that the file holds; None where there is no such file."""
    if not has_layout(path, layout):
        return None
    found = mapped_vectors(path, layout, model_ids, contents)
    if found is None:
        return Vectors(model_ids[:0], contents[:0], np.empty((0, sum(layout.values())), np.float32))
    values, places = found
    there = places >= 0
    return Vectors(model_ids[there], contents[there], values[places[there]])
