"""The paper's figures as SVG: small, readable on light and dark pages, and the same bytes for the same numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from store.errors import StopError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Line", "Panel", "draw"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444")
"""Told apart by the colour-blind (Okabe and Ito)."""
LETTERS: Final = 15
"""An inch, about."""
STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "modelkin",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel. Lines of one `colour` are one thing measured twice; a `faint` one is the second time."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    deviation: Sequence[float] | None = None
    colour: int = 0
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    limits: tuple[float, float] | None = None


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Panels side by side, one legend for all. Raises StopError without matplotlib, which only benchmarks need."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StopError("figures need matplotlib: install modelkin[bench]") from error
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width := 2.6 * max(len(panels), 1.5) + 0.6, 3.1), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        handles: dict[str, Any] = {}
        for ax, panel in zip(axes, panels, strict=True):
            handles |= _panel(ax, panel)
        if len(handles) > 1:
            columns = max(1, int(width * LETTERS / (max(map(len, handles)) + 8)))
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    # A hundredth of a point is enough; a turn by nothing and the names of groups say nothing.
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", path.read_text())
    text = re.sub(r' transform="rotate\(-0 [^"]*"| id="[a-z0-9.]+_\d+"', "", text)
    text = text.replace("font-family: 'DejaVu Sans'", "font-family: 'DejaVu Sans', sans-serif")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


def _panel(ax: Axes, panel: Panel) -> Mapping[str, Any]:
    handles: dict[str, Any] = {}
    for line in panel.lines:
        colour = COLOURS[line.colour % len(COLOURS)]
        dashes = "--" if line.faint else "-"
        (handle,) = ax.plot(line.x, line.y, dashes, color=colour, marker="o", markersize=2.5, linewidth=1.2)
        if line.deviation is not None:
            low, high = ([y + side * d for y, d in zip(line.y, line.deviation, strict=True)] for side in (-1, 1))
            ax.fill_between(line.x, low, high, color=colour, alpha=0.12, linewidth=0)
        handles.setdefault(line.label, handle)
    ax.set_title(panel.title, fontsize=9)
    ax.set_xlabel(panel.x)
    ax.set_ylabel(panel.y)
    if panel.limits:
        ax.set_ylim(*panel.limits)
    ax.locator_params(axis="x", integer=True, nbins=6)
    ax.grid(True, color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)
    return handles
