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
from numba import njit
from numpy.typing import NDArray

from indexer.cues import measure_cues
from indexer.family import Family
from indexer.roots import parents_first
from indexer.sparse import Matrix
from store.records import Edge

__all__ = ["STAGES", "all_stages", "infer_stages", "initialised", "stages_along"]

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
    steps = np.asarray(squared[np.where(parent >= 0, parent, np.arange(len(parent))), np.arange(len(parent))])
    falls = np.array([0.0 if p < 0 else fall(p, v) for v, p in enumerate(parent.tolist())])
    return stages_along(parent, initialised(family), steps, falls)


def stages_along(
    parent: NDArray[np.int64], raw: NDArray[np.bool_], steps: NDArray[np.float64], falls: NDArray[np.float64]
) -> list[str]:
    """n of STAGES: of parents (-1 for roots), whether each is only `initialised`, its squared distance from its parent,
    and the mean sign of the fall of kurtosis from that."""
    tuned = _tuned(parent, parents_first(parent), raw, steps, falls)
    return [STAGES[at] for at in tuned.tolist()]


@njit(cache=True, nogil=True)
def _tuned(
    parent: NDArray[np.int64],
    order: NDArray[np.int64],
    raw: NDArray[np.bool_],
    steps: NDArray[np.float64],
    falls: NDArray[np.float64],
) -> NDArray[np.int64]:
    """n: 1 where a model was tuned; `order` has parents first."""
    stage, children = np.zeros(parent.size, np.int64), np.zeros(parent.size, np.int64)
    for v in range(parent.size):
        if parent[v] >= 0:
            children[parent[v]] += 1
    for v in order:
        p = parent[v]
        if p < 0:
            continue
        above = parent[p]
        odds = BEGUN if raw[p] else TUNED if above < 0 else CONTINUED
        if above >= 0 and 0 < steps[p] < np.inf and 0 < steps[v] < np.inf and not raw[above]:
            odds += RESTART * min(max(np.log(steps[v] / steps[p]), -_STEP_LIMIT), _STEP_LIMIT)
        odds += SIBLINGS * (children[p] > 1) + TAILS * falls[v]
        stage[v] = 1 if stage[p] == 1 or odds > 0 else 0
    return stage


def all_stages(
    model_ids: Iterable[int], known: Mapping[int, str], edges: Iterable[Edge], standing: Mapping[int, int] | None = None
) -> tuple[str, ...]:
    """A stage each: a model's own, or that of what it is a copy of or was computed from, as no training made it.

    `standing` is child -> parent of further edges.
    """
    above = {**(standing or {}), **{edge.child_id: edge.parent_id for edge in edges}}

    def stage_of(model_id: int) -> str:
        seen = set()
        while model_id not in known and model_id in above and model_id not in seen:
            seen.add(model_id)
            model_id = above[model_id]
        return known.get(model_id, STAGES[0])

    return tuple(stage_of(int(model_id)) for model_id in model_ids)
