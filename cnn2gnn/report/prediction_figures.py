"""Figures of what is predicted: confidence, confusion, and teacher against student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.drawing.palette import INK, MODELS
from cnn2gnn.drawing.pictures import draw_class_matrix
from cnn2gnn.drawing.style import PAGE, SMALLEST, new_figure, styled

NAMES = {"teacher": "teacher", "no_graph": "student, no_graph", "student": "student"}
MARKS = {"teacher": "s", "no_graph": "^", "student": "o"}
RIGHT = {
    "both": "#bbbbbb",
    "teacher only": MODELS["teacher"],
    "student only": MODELS["student"],
    "neither": INK,
}


@styled
def reliability(calibrations: dict[str, pd.DataFrame], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence; below, how often each confidence occurs.

    Args:
        calibrations: as of `measures.calibration`, by model: teacher, no_graph, student.
        errors: expected calibration errors in [0, 1], by model.
    """
    figure = new_figure(height=3.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 100], [0, 100], color=INK, linewidth=0.6, ls=":")
    for model, bins in calibrations.items():
        label = f"{NAMES[model]} (ECE {100 * errors[model]:.1f} %)"
        look: dict[str, Any] = {"color": MODELS[model], "marker": MARKS[model]}
        above.plot(100 * bins["confidence"], 100 * bins["accuracy"], label=label, **look)
        below.plot(100 * bins["confidence"], 100 * bins["share"], **look)
    above.set_ylabel("accuracy [%]")
    figure.legend(loc="outside upper center")
    below.set_ylabel("samples [%]")
    below.set_yscale("log")
    below.set_xlabel("confidence [%]")
    below.set_xlim(0, 101)
    return figure


@styled
def class_matrix(shares: Tensor, classes: Sequence[str], rows: str, columns: str) -> Figure:
    """Draw shares of each row's class in % as a heat map.

    Args:
        shares: as of `draw_class_matrix`.
        rows, columns: what the axes show.
    """
    figure = new_figure(height=3.1)
    draw_class_matrix(figure.add_subplot(), shares, classes, rows, columns)
    return figure


@styled
def teacher_agreement(agreements: pd.DataFrame) -> Figure:
    """Who is right, teacher or student; and how far their probabilities lie apart.

    Args:
        agreements: as of `measures.agreement`, of one run or of several.
    """
    students = agreements[agreements["model"] != "teacher"].groupby("model").mean(numeric_only=True)
    figure = new_figure(PAGE, 1.7)
    right, apart = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    names = [NAMES[model] for model in students.index]
    left = pd.Series(0.0, index=students.index)
    for part, colour in RIGHT.items():
        share = 100 * students[part]
        bars = right.barh(names, share, left=left, color=colour, label=part)
        texts = [f"{value:.1f}" if value > 4 else "" for value in share]
        ink = INK if part == "both" else "white"
        right.bar_label(bars, texts, label_type="center", color=ink, fontsize=SMALLEST)
        left += share
    right.set_xlabel("who is right [% of test samples]")
    right.set_xlim(0, 100)
    colours = [MODELS[model] for model in students.index]
    bars = apart.barh(names, students["kl"], color=colours)
    apart.bar_label(bars, fmt="%.3f", fontsize=SMALLEST, padding=2)
    apart.margins(x=0.25)
    apart.set_xlabel("KL(teacher ‖ student) [nat]")
    figure.legend(loc="outside upper center", ncols=4)
    return figure
