"""Figures of training and accuracy: functions of numbers, each returns a matplotlib figure.

A figure shows itself as the last expression of a notebook's cell, without a semicolon.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn2gnn.explore.palette import INK, MODELS
from cnn2gnn.report.style import PAGE, new_figure, styled
from cnn2gnn.report.tables import STAGES


@styled
def training_curves(history: list[dict[str, Any]]) -> Figure:
    """Training loss and validation accuracy per epoch, one colour a stage.

    Args:
        history: rows as of `Run.history()`; the rows of several runs in one list are drawn as
            their mean with a band of one standard deviation.

    Raises:
        ValueError: there are no rows.
    """
    if not history:
        raise ValueError("history=[] has no epochs to draw")
    rows = pd.DataFrame(history)
    figure = new_figure(PAGE, 2.3)
    loss, validation = figure.subplots(1, 2)
    for stage, epochs in rows.groupby("stage", sort=False):
        colour, name = MODELS.get(stage, INK), STAGES.get(stage, stage)
        _line(loss, epochs, "loss", 1, color=colour, label=name)
        _line(validation, epochs, "accuracy", 100, color=colour, label=name)
        if stage == "student" and "own_accuracy" in epochs:
            name = f"{name}, alone"
            _line(validation, epochs, "own_accuracy", 100, color=colour, label=name, ls="--")
    loss.set_ylabel("training loss [nat]")
    validation.set_ylabel("validation accuracy [%]")
    for axes in (loss, validation):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*validation.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, unit: float, **look: Any) -> None:
    """Draw a column over the epochs: its mean, and ± one standard deviation over several runs."""
    values = (rows.set_index("epoch")[column].astype(float) * unit).groupby("epoch")
    mean, std = values.mean(), values.std()
    epochs = mean.index + 1  # readers count from 1
    axes.plot(epochs, mean, marker="." if len(mean) < 40 else None, **look)
    if std.notna().any():
        band = (epochs, mean - std, mean + std)
        axes.fill_between(*band, color=look["color"], alpha=0.15, linewidth=0)
