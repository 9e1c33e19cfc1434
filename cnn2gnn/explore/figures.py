"""Figures of one node: pure functions of data, each returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn2gnn.drawing.lettering import plain_name, plain_names
from cnn2gnn.drawing.pictures import show_image
from cnn2gnn.explore.card import NodeCard
from cnn2gnn.explore.pictures import Images
from cnn2gnn.explore.whatif import Prediction
from cnn2gnn.palette import (
    AGAINST,
    CORRECT,
    FAINT,
    FOR,
    INK,
    MODELS,
    VERDICTS,
    WRONG,
)


def card_figure(card: NodeCard, images: Images) -> Figure:
    """Draw a node, what is said of it, and its neighbours with weight and label."""
    shown = card.neighbours.head(20)
    columns = 10
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(8.4, 2.3 + 1.15 * rows), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=[2.3, 1.15 * max(rows, 1)])
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    left, middle = top.subplots(1, 2, width_ratios=[1, 3])
    show_image(left, images(card.node))
    left.set_title(
        f"{card.node}: {plain_name(card.label)}\n{card.verdict}", color=VERDICTS[card.verdict]
    )
    _opinions(middle, card)
    for axes in bottom.subplots(max(rows, 1), columns, squeeze=False).flat[len(shown) :]:
        axes.set_axis_off()
    for axes, (_, edge) in zip(bottom.axes, shown.iterrows(), strict=False):
        show_image(axes, images(edge["node"]), CORRECT if edge["same_class"] else WRONG)
        axes.set_title(f"{plain_name(edge['label'], 10)}\n{edge['weight']:.3f}")
        if not edge["on"]:
            axes.images[0].set_alpha(0.2)
    return figure


def evidence_figure(
    prediction: Prediction, classes: Sequence[str], label: int, names: Sequence[str]
) -> Figure:
    """Draw each edge's exact share in the correction, c·g_i·s_ij·r_j, for and against.

    One panel for the predicted class and, where it is another, one for the true class. In scope
    batch the correction is no sum over edges; the figure says so.

    Args:
        names: what the neighbours are called, k of them, as matplotlib can draw it.
    """
    focus = list(dict.fromkeys([prediction.predicted, label]))
    height = max(2.2, 0.8 + 0.2 * len(names))
    figure = Figure(figsize=(3.7 * len(focus), height), layout="constrained")
    if prediction.contributions is None:
        figure.text(0.5, 0.5, "scope batch: no sum over edges;\nsee the ranking", ha="center")
        return figure
    places = np.arange(len(names))
    axes: Axes
    for axes, index in zip(figure.subplots(1, len(focus), squeeze=False)[0], focus, strict=True):
        bars = prediction.contributions[:, index].numpy()
        axes.barh(places, bars, color=[FOR if bar >= 0 else AGAINST for bar in bars])
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        base, final = float(prediction.base_logits[index]), float(prediction.logits[index])
        role = " (true)" if index == label else " (predicted)"
        axes.set_title(
            f"{plain_name(classes[index])}{role}: {base:+.2f} {bars.sum():+.2f} = {final:+.2f}"
        )
        axes.set_xlabel("added to the logit")
    return figure


def change_figure(
    before: Prediction, after: Prediction, classes: Sequence[str], label: int
) -> Figure:
    """Draw the likeliest classes' probabilities before and after a change of the graph."""
    best = (before.probabilities + after.probabilities).topk(min(5, len(classes))).indices.tolist()
    if label not in best:
        best[-1] = label
    figure = Figure(figsize=(5.2, 2.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(best))
    for offset, prediction, name, colour in (
        (-0.2, before, "as it is", FAINT),
        (0.2, after, "what if", MODELS["student"]),
    ):
        values = prediction.probabilities[best].numpy()
        bars = axes.bar(places + offset, values, 0.38, color=colour, label=name)
        axes.bar_label(bars, fmt="%.2f")
    shown = plain_names([classes[index] for index in best])
    true = ["\n(true)" if index == label else "" for index in best]
    axes.set_xticks(places, [a + b for a, b in zip(shown, true, strict=True)])
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("probability")
    axes.legend()
    return figure


def ranking_figure(ranking: pd.DataFrame, most: int = 12) -> Figure:
    """Draw what removing each edge does to the predicted class's probability, beside its weight."""
    shown = ranking.head(most)
    figure = Figure(figsize=(5.2, 0.9 + 0.22 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    places = np.arange(len(shown))
    colours = [FOR if change < 0 else AGAINST for change in shown["change"]]
    left.barh(places, shown["change"], color=colours)
    left.axvline(0, color=INK, linewidth=0.8)
    names = [
        f"{node} ({plain_name(name)})"
        for node, name in zip(shown["node"], shown["label"], strict=True)
    ]
    left.set_yticks(places, names)
    left.invert_yaxis()
    left.set_xlabel("change of probability without it")
    right.barh(places, shown["weight"], color=FAINT)
    right.set_xlabel("weight")
    return figure


def _opinions(axes: Axes, card: NodeCard) -> None:
    """Draw the three likeliest classes of teacher, student and base branch as bars."""
    lines = [
        (f"{model}: {plain_name(name)}", probability, MODELS[model])
        for model, opinion in card.opinions.items()
        for name, probability in opinion or []
    ]
    places = np.arange(len(lines))
    bars = axes.barh(places, [line[1] for line in lines], color=[line[2] for line in lines])
    axes.bar_label(bars, fmt="%.2f", padding=2)
    axes.set_yticks(places, [line[0] for line in lines])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_title(f"probability; gate {card.gate:.2f}")
