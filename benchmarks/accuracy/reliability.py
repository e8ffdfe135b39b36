"""Are confidences what they say? Of the edges that claim 80%, are 80% right? Pooled over collections, and drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy.score import brier, calibration, calibration_error

__all__ = ["OVERALL", "Judged", "draw", "pooled", "summary"]

Judged = Sequence[tuple[float, bool]]
"""(confidence, whether the parent was right) of each edge."""

OVERALL: Final = "overall"
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which tell apart for every kind of colour vision."""


def pooled(lines: Iterable[tuple[str, str, Judged]]) -> dict[str, list[tuple[float, bool]]]:
    """`lines` are (set, split, judged edges). By set/split, then by set, then overall."""
    splits: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    sets: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    overall: list[tuple[float, bool]] = []
    for name, split, judged in lines:
        splits[f"{name}/{split}"] += judged
        sets[name] += judged
        overall += judged
    return {**splits, **sets, OVERALL: overall}


def summary(pools: Mapping[str, Judged]) -> list[dict[str, Any]]:
    """A row a pool: edges, mean confidence, share right, calibration error, Brier score."""
    return [
        {
            "pool": name,
            "edges": len(judged),
            "mean_confidence": sum(c for c, _ in judged) / len(judged),
            "right": sum(r for _, r in judged) / len(judged),
            "ece": calibration_error(judged),
            "brier": brier(judged),
        }
        for name, judged in pools.items()
        if judged
    ]


def draw(pools: Mapping[str, Judged], path: Path) -> None:
    """The reliability diagram as SVG, the same bytes for the same numbers: share right against confidence in ten bins,
    a line a set and one for all, and below how many edges are in each bin."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "modelkin", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.4, 5.8), layout="constrained", facecolor="white")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1.0))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
        upper.plot((0, 1), (0, 1), color="#999999", linewidth=1, linestyle=(0, (4, 3)), label="as they say")
        drawn = [name for name, judged in pools.items() if judged and "/" not in name and name != OVERALL]
        for colour, name in zip(_COLOURS[1:] * len(drawn), drawn if len(drawn) > 1 else (), strict=False):
            _line(upper, name, pools[name], color=colour, linewidth=1, marker=".", markersize=5, alpha=0.9)
        _line(upper, OVERALL, pools[OVERALL], color=_COLOURS[0], linewidth=2, marker="o", markersize=5)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of edges whose parent is right")
        upper.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        counts = [n for n, _, _ in calibration(pools[OVERALL])]
        width = 1 / len(counts)
        lower.bar([(at + 0.5) * width for at in range(len(counts))], counts, width * 0.9, color=_COLOURS[0])
        lower.set(xlabel="confidence", ylabel="edges")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _line(axes: Any, name: str, judged: Judged, **style: Any) -> None:
    bins = [(mean, share) for n, mean, share in calibration(judged) if n]
    label = f"{name}: {len(judged)} edges, ECE {calibration_error(judged):.3f}"
    axes.plot([mean for mean, _ in bins], [share for _, share in bins], label=label, **style)
