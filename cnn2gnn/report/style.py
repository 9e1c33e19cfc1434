"""One look for all figures: two widths of a printed page, letters that can be read at them."""

from __future__ import annotations

from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from cnn2gnn.explore.palette import INK

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
    "axes.prop_cycle": cycler(color=[INK]),
}

# A decorator: figures take their style when they are made, whatever the reader's own settings are.
styled = matplotlib.rc_context(STYLE)


def new_figure(width: float = COLUMN, height: float = 2.4) -> Figure:
    """An empty figure of a size in inches. It belongs to nobody, so that none must be closed."""
    return Figure(figsize=(width, height), layout="constrained")
