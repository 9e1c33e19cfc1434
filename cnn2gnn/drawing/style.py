"""One look for all figures: letters that can be read at the width of a printed page."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cnn2gnn.drawing.lettering import families
from cnn2gnn.drawing.palette import INK

P = ParamSpec("P")
COLUMN, PAGE = 3.4, 7.0  # inches: one column of a two-column paper, and both
SMALLEST = 7  # points

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "figure.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "text.usetex": False,  # a class may be called as it likes
    "axes.prop_cycle": cycler(color=[INK]),
}

# of what is drawn as pixels: a map of 55,000 points in print, and small enough to be sent around
_DPI = {"png": 300, "pdf": 300, "svg": 120}
# pdf: text that can be searched and edited; svg: the same letters wherever it is shown
_SAVING: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "cnn2gnn"}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give a figure this style when it is made, whatever the reader's own settings are."""

    @wraps(draw)
    def drawn_in_style(*arguments: P.args, **named: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE | {"font.family": families()}):
            return draw(*arguments, **named)

    return drawn_in_style


def new_figure(width: float = COLUMN, height: float = 2.4) -> Figure:
    """An empty figure of a size in inches. It belongs to nobody, so that none must be closed."""
    return Figure(figsize=(width, height), layout="constrained")


def drawn(figure: Figure, kind: str) -> bytes:
    """A figure as a file of a kind: png, svg or pdf."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):  # once for all formats
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer, figure.dpi = io.BytesIO(), _DPI[kind]
    # `savefig` would draw it twice: once more for layouts that depend on the format
    with matplotlib.rc_context(_SAVING):
        # undated: the same figure is the same file, on any day
        if kind == "png":
            FigureCanvasAgg(figure).print_png(buffer)
        elif kind == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
        else:
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
    return buffer.getvalue()
