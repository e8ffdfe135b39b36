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
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""Each colour has one, for those who see or print no colours."""
ACROSS: Final = 3
"""Panels in a row, so that a page that is as wide as a column of text shows them in full size."""
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
    """One line of a panel. Lines of one `colour` (and marker) are one thing measured twice; a `faint` one (dashed, with
    hollow markers) is the second time. Bars show the `deviation`."""

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
    """Panels side by side, in one row or two, one legend for all.

    Raises StopError without matplotlib, which only benchmarks need.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StopError("figures need matplotlib: install modelkin[bench]") from error
    with mpl.rc_context(STYLE):
        across = len(panels) if len(panels) <= ACROSS else (len(panels) + 1) // 2
        down = -(-len(panels) // across)
        width = 2.6 * max(across, 1.5) + 0.6
        figure = Figure(figsize=(width, 2.5 * down + 0.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        handles: dict[str, Any] = {}
        for at, panel in enumerate(panels):
            ax = axes[at]
            handles |= _panel(ax, panel)
            if at % across and panel.y == panels[at - 1].y:
                ax.set_ylabel("")
        if len(handles) > 1:
            columns = max(1, int(width * LETTERS / (max(map(len, handles)) + 8)))
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    # A hundredth of a point is enough, in attributes and not in what is written; a turn by nothing and the names of
    # groups say nothing.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), path.read_text())
    text = re.sub(r' transform="rotate\(-0 [^"]*"| id="[a-z0-9.]+_\d+"', "", text)
    text = text.replace("font-family: 'DejaVu Sans'", "font-family: 'DejaVu Sans', sans-serif")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


def _panel(ax: Axes, panel: Panel) -> Mapping[str, Any]:
    handles: dict[str, Any] = {}
    for line in panel.lines:
        colour, marker = COLOURS[line.colour % len(COLOURS)], MARKERS[line.colour % len(MARKERS)]
        look: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.2}
        if line.faint:
            # Above the other line, and smaller: where the two agree, both are seen.
            look |= {"linestyle": "--", "markersize": 6.0, "markerfacecolor": "none", "zorder": 3}
        else:
            look |= {"linestyle": "-", "markersize": 3.5, "zorder": 2}
        handle = ax.errorbar(line.x, line.y, line.deviation, elinewidth=0.8, capsize=2.5, **look)
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
