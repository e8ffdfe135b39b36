"""What was found against what is true: pure functions, each a definition.

A truth edge is a child with an observed parent. The paper's metric counts it when the parent that was found is a true
one, direction included; of a merge any of its parents is. A child whose parent is absent is right when it hangs on an
inferred ancestor with its siblings; edges of inferred ancestors to their own parents are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

from benchmarks.accuracy.absent import absent_figures, rightly_adopted
from benchmarks.accuracy.truth import Truth

__all__ = ["Found", "adjusted_rand", "brier", "calibration", "calibration_error", "judged", "score"]

BINS = 10
COMPUTED = frozenset({"cast", "quantized", "pruned", "copy"})
"""Relations that are no training."""


@dataclass(frozen=True, slots=True)
class Found:
    """One method's answer for one collection."""

    parent: Mapping[str, str]
    """Child -> parent; a model without one is not in it."""
    cluster: Mapping[str, int]
    """Model -> the cluster that the method put it into before it looked for edges."""
    confidence: Mapping[str, float] | None = None
    """Child -> probability that its parent is right; None when the method has none."""
    relation: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Child -> cue -> value."""
    more_parents: Mapping[str, frozenset[str]] | None = None
    """Child -> all parents of a merge; None when the method knows no merges."""
    stage: Mapping[str, str] | None = None
    seconds: float = 0.0
    inferred: frozenset[str] = frozenset()
    """Parents that are no models, but inferred ancestors."""

    @property
    def edges(self) -> dict[str, str]:
        """Model -> parent."""
        return {child: parent for child, parent in self.parent.items() if child not in self.inferred}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def score(truth: Truth, found: Found) -> dict[str, Any]:
    """The figures of one line, unrounded; None where there is nothing to take a share of."""
    known = truth.parents
    right = {child for child, parents in known.items() if found.parent.get(child) in parents}
    turned = {child for child, parents in known.items() if child not in right and _turned(child, parents, found.parent)}
    adopted = rightly_adopted(truth.absent, found.parent, found.inferred, truth.models)
    pairs = judged(truth, found)
    return {
        "models": len(truth.models),
        "truth_edges": len(known),
        "directed_accuracy": _ratio(len(right), len(known)),
        "undirected_accuracy": _ratio(len(right) + len(turned), len(known)),
        "direction_accuracy": _ratio(len(right), len(right) + len(turned)),
        "precision": _ratio(len(right) + len(adopted), len(found.edges)),
        "recall": _ratio(len(right), len(known)),
        "ari": adjusted_rand([truth.cluster[m] for m in truth.models], _clusters(truth, found)),
        "ece": calibration_error(pairs) if pairs else None,
        "brier": brier(pairs) if pairs else None,
        "mean_confidence": _ratio(sum(c for c, _ in pairs), len(pairs)),
        "edges": len(found.edges),
        "unplaced": _ratio(len(known.keys() - found.parent.keys()), len(known)),
        "orphans": len(truth.orphans),
        "orphans_unplaced": _ratio(len(truth.orphans - found.parent.keys()), len(truth.orphans)),
        **absent_figures(truth.absent, found.parent, found.inferred, truth.models),
        "relation_accuracy": _relation_accuracy(truth, found, right),
        "by_relation": _by_relation(truth, right),
        "merge_parents_recall": _merge_parents_recall(truth, found),
        "stage_accuracy": _stage_accuracy(truth, found),
        "seconds": found.seconds,
    }


def _turned(child: str, parents: Iterable[str], found: Mapping[str, str]) -> bool:
    """Whether an edge of the child is there, the wrong way round."""
    return any(found.get(parent) == child for parent in parents)


def _clusters(truth: Truth, found: Found) -> list[object]:
    """A model that the method has not seen is alone."""
    return [found.cluster.get(m, f"alone {m}") for m in truth.models]


def judged(truth: Truth, found: Found) -> list[tuple[float, bool]]:
    """(confidence, whether its parent is a true one) of every edge that was output; empty without confidences."""
    if found.confidence is None:
        return []
    adopted = rightly_adopted(truth.absent, found.parent, found.inferred, truth.models)
    return [
        (found.confidence[child], child in adopted or parent in truth.parents.get(child, ()))
        for child, parent in sorted(found.edges.items())
    ]


def calibration(pairs: Sequence[tuple[float, bool]], bins: int = BINS) -> list[tuple[int, float, float]]:
    """(number, mean confidence, share right) of each of `bins` equal-width bins; zeros for an empty one.

    A confidence on a border belongs to the bin above it, 1 to the last.
    """
    filled: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, right in pairs:
        filled[min(int(confidence * bins), bins - 1)].append((confidence, right))
    return [
        (len(each), sum(c for c, _ in each) / max(len(each), 1), sum(r for _, r in each) / max(len(each), 1))
        for each in filled
    ]


def calibration_error(pairs: Sequence[tuple[float, bool]], bins: int = BINS) -> float:
    """Expected calibration error: the mean over pairs of |mean confidence - share right| of their bin.

    (Naeini, Cooper, Hauskrecht 2015; Guo, Pleiss, Sun, Weinberger 2017.)
    """
    return sum(n * abs(mean - share) for n, mean, share in calibration(pairs, bins)) / len(pairs)


def brier(pairs: Sequence[tuple[float, bool]]) -> float:
    """Mean of (confidence - 1 or 0)^2."""
    return sum((confidence - right) ** 2 for confidence, right in pairs) / len(pairs)


def adjusted_rand(one: Sequence[object], other: Sequence[object]) -> float:
    """Adjusted Rand index of two partitions, given as labels: 1 for equal ones, 0 on average for random ones.

    (Hubert and Arabie 1985.) Where chance leaves no room (all alone in both, or all together in both), 1.
    """
    together = sum(comb(n, 2) for n in Counter(zip(one, other, strict=True)).values())
    first, second = (sum(comb(n, 2) for n in Counter(labels).values()) for labels in (one, other))
    all_pairs = comb(len(one), 2)
    expected = first * second / all_pairs if all_pairs else 0.0
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def _relation_accuracy(truth: Truth, found: Found, right: Iterable[str]) -> float | None:
    """Of the right edges whose relation is known, the share that says it."""
    named = [child for child in right if child in truth.relation and child in found.relation]
    return _ratio(sum(found.relation[c] == truth.relation[c] for c in named), len(named))


def _by_relation(truth: Truth, right: Iterable[str]) -> dict[str, list[int]]:
    """True relation -> [right edges, truth edges]."""
    right = set(right)
    counts: dict[str, list[int]] = {}
    for child in sorted(truth.parents, key=lambda c: (truth.relation.get(c, ""), c)):
        if child in truth.relation:
            of = counts.setdefault(truth.relation[child], [0, 0])
            of[0] += child in right
            of[1] += 1
    return counts


def _merge_parents_recall(truth: Truth, found: Found) -> float | None:
    """Of all parents of all true merges, the share that was found."""
    merges = {child: parents for child, parents in truth.parents.items() if len(parents) > 1}
    if found.more_parents is None or not merges:
        return None
    hits = sum(len(parents & found.more_parents.get(child, frozenset())) for child, parents in merges.items())
    return hits / sum(map(len, merges.values()))


def _stage_accuracy(truth: Truth, found: Found) -> float | None:
    """Of the models that training made, the share whose stage is right; of casts and copies there is none."""
    if found.stage is None:
        return None
    known = [m for m in truth.stage if m in found.stage and truth.relation.get(m, "") not in COMPUTED]
    return _ratio(sum(found.stage[m] == truth.stage[m] for m in known), len(known))
