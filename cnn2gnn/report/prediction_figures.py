"""Figures of what is predicted: confidence, confusion, and teacher against student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.palette import INK, MODELS, SEQUENTIAL
from cnn2gnn.report.style import PAGE, SMALLEST, new_figure, styled

NAMES = {"teacher": "teacher", "own": "student, alone", "student": "graph student"}
MARKS = {"teacher": "s", "own": "^", "student": "o"}
RIGHT = {
    "both": "#bbbbbb",
    "teacher only": MODELS["teacher"],
    "student only": MODELS["student"],
    "neither": INK,
}
READABLE = 20  # classes whose names fit along a column
NUMBERED = 12  # classes whose cells hold a number


@styled
def reliability(calibrations: dict[str, pd.DataFrame], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence; below, how often each confidence occurs.

    Args:
        calibrations: as of `measures.calibration`, by model: teacher, own, student.
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
    below.set_ylabel("images [%]")
    below.set_yscale("log")
    below.set_xlabel("confidence [%]")
    below.set_xlim(0, 101)
    return figure


@styled
def class_matrix(shares: Tensor, classes: Sequence[str], rows: str, columns: str) -> Figure:
    """Draw shares of each row's class in % as a heat map.

    Args:
        shares: `(C, C)`, rows sum to 1.
        rows, columns: what the axes show.
    """
    figure = new_figure(height=3.1)
    axes = figure.add_subplot()
    # the square root: the rare mistakes are what one looks for
    picture = axes.imshow(100 * shares.numpy(), cmap=SEQUENTIAL, norm=PowerNorm(0.5, 0, 100))
    if len(classes) <= READABLE:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= NUMBERED:
        _numbers(axes, 100 * shares)
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ticks=[0, 1, 5, 20, 50, 100], label="share of the row [%]")
    bar.outline.set_visible(False)
    return figure


def _numbers(axes: Axes, percent: Tensor) -> None:
    for row, values in enumerate(percent.tolist()):
        for column, value in enumerate(values):
            if value >= 0.5:
                colour = "white" if value < 25 else "black"
                look: dict[str, Any] = {
                    "ha": "center",
                    "va": "center",
                    "color": colour,
                    "fontsize": SMALLEST,
                }
                axes.text(column, row, f"{value:.0f}", **look)


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
    right.set_xlabel("who is right [% of test images]")
    right.set_xlim(0, 100)
    colours = [MODELS[model] for model in students.index]
    bars = apart.barh(names, students["kl"], color=colours)
    apart.bar_label(bars, fmt="%.3f", fontsize=SMALLEST, padding=2)
    apart.margins(x=0.25)
    apart.set_xlabel("KL(teacher ‖ student) [nat]")
    figure.legend(loc="outside upper center", ncols=4)
    return figure
