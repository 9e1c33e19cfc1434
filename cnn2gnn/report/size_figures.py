"""Figures of what accuracy costs: functions of tidy frames, each returns a matplotlib figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnn2gnn.drawing.palette import INK, MODELS
from cnn2gnn.drawing.style import PAGE, new_figure, styled

COSTS = {
    "milliseconds": "latency of one sample [ms]",
    "megabytes": "parameters and bank [MB]",
    "seconds": "training [s]",
}
MARKERS = "osD^vPX*"  # one a configuration; beyond eight they repeat


@styled
def accuracy_by_bank_size(sizes: pd.DataFrame, chosen: str) -> Figure:
    """Validation and test accuracy against megabytes; the full bank is a square.

    Args:
        sizes: as of `evaluation.bank_sizes`, of one run or several.
        chosen: the bank that is ringed.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    by_bank = sizes.groupby("bank", sort=False)[["megabytes", "validation", "test"]]
    mean, std = by_bank.mean(), by_bank.std().fillna(0)
    for part, look in (("test", "-"), ("validation", "--")):
        colour = MODELS["student"] if part == "test" else INK
        axes.errorbar(
            mean["megabytes"].iloc[1:], 100 * mean[part].iloc[1:], 100 * std[part].iloc[1:],
            color=colour, ls=look, marker="o", capsize=2, label=part,
        )  # fmt: skip
        axes.plot(mean["megabytes"].iloc[:1], 100 * mean[part].iloc[:1], "s", color=colour)
    axes.plot([], [], "s", color=INK, label="as saved")
    ring = mean.loc[chosen]
    axes.plot(
        [ring["megabytes"]], [100 * ring["test"]], "o", ms=9, mfc="none", color=INK, label="chosen"
    )
    axes.set_xlabel("bank [MB]")
    axes.set_ylabel("accuracy [%]")
    _log(axes)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


@styled
def pareto_front(points: pd.DataFrame) -> Figure:
    """Accuracy against each cost, side by side; points of the front are filled.

    Args:
        points: as of `size_measures.on_front`, with a column configuration.
    """
    figure = new_figure(PAGE, 2.6)
    every = figure.subplots(1, len(COSTS), sharey=True)
    configurations = points["configuration"].unique()
    for axes, (cost, label) in zip(every, COSTS.items(), strict=True):
        for number, name in enumerate(configurations):
            shown = points[points["configuration"] == name]
            for graph, group in shown.groupby("graph"):
                colour = MODELS["student" if graph else "twin"]
                for front, part in group.groupby("front"):
                    axes.plot(
                        part[cost], 100 * part["accuracy"], MARKERS[number % len(MARKERS)],
                        color=colour, mfc=colour if front else "none",
                    )  # fmt: skip
        axes.set_xlabel(label)
        _log(axes)
    every[0].set_ylabel("test accuracy [%]")
    for name in ("student", "twin"):
        label = {"student": "graph student", "twin": "twin, no graph"}[name]
        every[0].plot([], [], "o", color=MODELS[name], label=label)
    for number, name in enumerate(configurations if len(configurations) > 1 else []):
        every[0].plot([], [], MARKERS[number % len(MARKERS)], color=INK, mfc="none", label=name)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _log(axes: Axes) -> None:
    """A logarithmic axis whose ticks are numbers that people write."""
    low, high = axes.dataLim.intervalx
    axes.set_xscale("log")
    if high < 20 * low:  # hardly a power of ten would be among the ticks
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
