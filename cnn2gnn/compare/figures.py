"""Figures of a comparison: accuracy by configuration, and along a parameter that is a number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from cnn2gnn.drawing.palette import INK, MODELS, class_colours
from cnn2gnn.drawing.style import PAGE, new_figure, styled

# model and protocol, as a reader calls them, with a marker
SHOWN = {
    ("teacher", "no_graph"): ("teacher", "D"),
    ("twin", "no_graph"): ("twin, no graph", "s"),
    ("student", "inductive"): ("student, inductive", "o"),
}
MANY = 40  # configurations that still can be told apart on one page


@styled
def by_configuration(tidy: pd.DataFrame) -> Figure:
    """Test accuracy in % of teacher, twin and student; each run faint, mean ± std in full colour.

    Args:
        tidy: as of `results.tidy`.
    """
    accuracies = tidy[tidy["metric"] == "accuracy"]
    names = list(dict.fromkeys(accuracies["configuration"]))[:MANY]
    figure = new_figure(PAGE, 0.9 + 0.3 * len(names))
    axes = figure.add_subplot()
    places = zip((-0.2, 0, 0.2), SHOWN.items(), strict=True)
    for offset, ((model, protocol), (label, marker)) in places:
        shown = accuracies[(accuracies["model"] == model) & (accuracies["protocol"] == protocol)]
        axes.plot([], [], marker, color=MODELS[model], label=label)
        for row, name in enumerate(names):
            values = 100 * shown.loc[shown["configuration"] == name, "value"]
            if len(values):
                place = row + offset
                axes.plot(values, [place] * len(values), marker, color=MODELS[model], alpha=0.3)
                spread = values.std() if len(values) > 1 else None
                axes.errorbar(
                    values.mean(), place, xerr=spread, fmt=marker, color=MODELS[model], capsize=2
                )
    axes.set_yticks(range(len(names)), [name or "all runs" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("test accuracy [%]")
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def along(tidy: pd.DataFrame, parameter: str, others: Sequence[str]) -> Figure:
    """Test accuracy in % of student and twin along a parameter: mean, bars of one deviation.

    Args:
        tidy: as of `results.tidy`.
        parameter: a varied parameter that is a number.
        others: the other varied ones but seeds; each combination of them has a line of its own.
    """
    accuracies = tidy[(tidy["metric"] == "accuracy") & tidy[parameter].notna()]
    figure = new_figure(PAGE, 2.6)
    axes = figure.add_subplot()
    lines = dict(iter(accuracies.groupby(list(others), dropna=False))) if others else {}
    styles = ("-", "--", ":", "-.")
    for number, (values, rows) in enumerate((lines or {(): accuracies}).items()):
        named = ", ".join(f"{name}={v}" for name, v in zip(others, values, strict=True))
        for (model, protocol), (label, marker) in SHOWN.items():
            shown = rows[(rows["model"] == model) & (rows["protocol"] == protocol)]
            if model == "teacher" or shown.empty:
                continue
            groups = (100 * shown["value"]).groupby(shown[parameter])
            axes.errorbar(
                groups.mean().index,
                groups.mean(),
                yerr=groups.std().fillna(0),
                marker=marker,
                ls=styles[number % len(styles)],
                color=MODELS[model],
                capsize=2,
                label=f"{label}, {named}" if named else label,
            )
    places = sorted(accuracies[parameter].unique())
    if min(places) > 0 and max(places) >= 8 * min(places):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlabel(parameter)
    axes.set_ylabel("test accuracy [%]")
    axes.grid(alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def by_size(sizes: pd.DataFrame, label: str) -> Figure:
    """Test accuracy in % against a size: a line a configuration, bars of one deviation.

    Args:
        sizes: as of `sizes.by_size`; label: what the size is of.
    """
    names = list(dict.fromkeys(sizes["configuration"]))[:MANY]
    figure = new_figure(PAGE, 2.6 + 0.16 * (len(names) // 2))
    axes = figure.add_subplot()
    for name, colour in zip(names, class_colours(len(names)), strict=True):
        shown = sizes[sizes["configuration"] == name]
        groups = (100 * shown["accuracy"]).groupby(shown["size"])
        axes.errorbar(
            groups.mean().index,
            groups.mean(),
            yerr=groups.std().fillna(0),
            marker="o",
            color=colour,
            capsize=2,
            label=name or "all runs",
        )
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy [%]")
    axes.grid(alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def intervals(differences: pd.DataFrame) -> Figure:
    """Differences in points with their 95 % intervals.

    Args:
        differences: as of `results.gains` or `results.differences`.
    """
    shown = differences.head(MANY)
    figure = new_figure(PAGE, 0.7 + 0.25 * len(shown))
    axes = figure.add_subplot()
    places = range(len(shown))
    below, above = shown["points"] - shown["low"], shown["high"] - shown["points"]
    axes.errorbar(
        shown["points"], places, xerr=[below, above], fmt="o", color=MODELS["student"], capsize=2
    )
    axes.axvline(0, color=INK, linewidth=0.8, ls=":")
    names = [f"{name or 'all runs'} − {other or 'the first'}" for name, other in
             zip(shown["configuration"], shown["against"], strict=True)]  # fmt: skip
    axes.set_yticks(places, names)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("difference [points]")
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    return figure
