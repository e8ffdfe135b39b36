"""Training stage of each model: generalization (pre-training, to learn more) or specialization (tuning for a task).

A root was pre-trained. What was tuned stays tuned. Between: steps shrink along a run, as its learning rate decays, and
grow where a new run begins; a model of constant biases and norms was only initialised, and nobody tunes one; a model
with several children was finished; and kurtosis falls in specialization (section 4.2 of the MoTHer paper), where the
root has tails to lose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.cues import measure_cues
from indexer.family import Family
from indexer.roots import parents_first
from indexer.sparse import Matrix
from store.records import Edge

__all__ = ["STAGES", "all_stages", "infer_stages", "initialised"]

STAGES: Final = ("generalization", "specialization")

TUNED: Final = 0.6
"""Log-odds of specialization for the child of a root: most published children are fine-tuned."""
BEGUN: Final = -3.0
"""And for that of a model that was only initialised."""
CONTINUED: Final = -1.0
"""And further down a pre-training: it goes on more often than it ends."""
RESTART: Final = 1.0
"""Weight of the log of a step's squared length over its parent's."""
_STEP_LIMIT: Final = 2.0
SIBLINGS: Final = 2.0
"""For a child that has siblings: a pre-training has one continuation."""
TAILS: Final = 0.5
"""Weight of the mean sign of the fall of kurtosis over layers."""


def initialised(family: Family) -> NDArray[np.bool_]:
    """n: are all biases and norms of a model constant, as no training leaves them?"""
    vectors = [t for t in family.tensors if t.role == "vector" and t.elements > 1]
    if not vectors:
        return np.zeros(len(family), bool)
    return np.asarray(np.all([(t.minimum == t.maximum) | ~t.present for t in vectors], axis=0))


def infer_stages(
    family: Family, parent: NDArray[np.int64], squared: Matrix, fall: Callable[[int, int], float] | None = None
) -> list[str]:
    """n of STAGES, from parents (n; -1 for roots) and n x n squared distances.

    `fall` gives the mean sign of the fall of kurtosis from a row to another, measured where it is not given.
    """
    fall = fall or (lambda p, v: measure_cues(family, p, v)["kurtosis"])
    n = len(parent)
    stage = np.zeros(n, np.int64)
    children = np.bincount(parent[parent >= 0], minlength=n)
    raw = initialised(family)
    steps = np.asarray(squared[np.where(parent >= 0, parent, np.arange(n)), np.arange(n)])
    for v in parents_first(parent):
        p = int(parent[v])
        if p < 0:
            continue
        above = int(parent[p])
        odds = BEGUN if raw[p] else TUNED if above < 0 else CONTINUED
        if above >= 0 and 0 < steps[p] < np.inf and 0 < steps[v] < np.inf and not raw[above]:
            step = float(np.log(steps[v] / steps[p]))
            odds += RESTART * float(np.clip(step, -_STEP_LIMIT, _STEP_LIMIT))
        odds += SIBLINGS * bool(children[p] > 1) + TAILS * fall(p, int(v))
        stage[v] = 1 if stage[p] or odds > 0 else 0
    return [STAGES[at] for at in stage]


def all_stages(model_ids: Iterable[int], known: Mapping[int, str], edges: Iterable[Edge]) -> tuple[str, ...]:
    """A stage each: a model's own, or that of what it is a copy of or was computed from, as no training made it."""
    above = {edge.child_id: edge.parent_id for edge in edges}

    def stage_of(model_id: int) -> str:
        seen = set()
        while model_id not in known and model_id in above and model_id not in seen:
            seen.add(model_id)
            model_id = above[model_id]
        return known.get(model_id, STAGES[0])

    return tuple(stage_of(int(model_id)) for model_id in model_ids)
