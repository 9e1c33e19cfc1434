"""Figures of one node: pure functions of data, each returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cnn2gnn.drawing.lettering import plain_name, plain_names
from cnn2gnn.drawing.palette import (
    AGAINST,
    CORRECT,
    FAINT,
    FOR,
    INK,
    MODELS,
    VERDICTS,
    WRONG,
)
from cnn2gnn.drawing.pictures import show_image
from cnn2gnn.explore.card import NodeCard
from cnn2gnn.explore.pictures import Images
from cnn2gnn.explore.whatif import Prediction


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
        f"{card.node}\n{plain_name(card.label)}\n{card.verdict}", color=VERDICTS[card.verdict]
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
    """Draw what each edge does to a logit through either layer, for and against.

    Solid: its exact share in layer 2, s_ij (c·g_i·r_j + α y_j); the solid bars add up. Hatched:
    what layer 1 loses when its message is left out; these do not. One panel for the predicted class
    and, where it is another, one for the true class.

    Args:
        names: what the neighbours are called, k of them, as matplotlib can draw it.
    """
    focus = list(dict.fromkeys([prediction.predicted, label]))
    height = max(2.8, 1.4 + 0.24 * len(names))
    figure = Figure(figsize=(3.7 * len(focus), height), layout="constrained")
    panels = figure.subplots(1, len(focus), squeeze=False, sharey=True)[0]
    for axes, index in zip(panels, focus, strict=True):
        _shares(axes, prediction, index)
        role = " (true)" if index == label else " (predicted)"
        parts = (prediction.base_logits, prediction.hidden, prediction.contributions.sum(0))
        # logit = base + hidden + evidence
        terms = " ".join(f"{float(part[index]):+.2f}" for part in parts)
        final = float(prediction.logits[index])
        axes.set_title(f"{plain_name(classes[index])}{role}\n{terms} = {final:+.2f}")
        axes.set_xlabel("added to the logit")
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].invert_yaxis()
    figure.suptitle("logit = base + hidden (layer 1) + evidence (layer 2)")
    solid = Patch(facecolor=INK, label="layer 2: exact; 0 where no label is told")
    hatched = Patch(label="layer 1: leave one out; does not add up", **_hatched(INK))
    figure.legend(handles=[solid, hatched], loc="outside lower center", ncols=len(focus))
    return figure


def _shares(axes: Axes, prediction: Prediction, index: int) -> None:
    """Draw both bars of every neighbour for one class."""
    exact, left_out = (
        shares[:, index].tolist() for shares in (prediction.contributions, prediction.hidden_shares)
    )
    for place, (upper, lower) in enumerate(zip(exact, left_out, strict=True)):
        axes.barh(place - 0.19, upper, 0.36, color=_opinion(upper))
        axes.barh(place + 0.19, lower, 0.36, **_hatched(_opinion(lower)))
    axes.axvline(0, color=INK, linewidth=0.8)


def _opinion(value: float) -> str:
    return FOR if value >= 0 else AGAINST


def _hatched(colour: str) -> dict[str, Any]:
    return {
        "facecolor": to_rgba(colour, 0.25),
        "edgecolor": colour,
        "linewidth": 0.5,
        "hatch": "//////",
    }


def change_figure(
    before: Prediction, after: Prediction, classes: Sequence[str], label: int
) -> Figure:
    """Draw the likeliest classes' probabilities before and after a change of the graph."""
    best = (before.probabilities + after.probabilities).topk(min(5, len(classes))).indices.tolist()
    if label not in best:
        best[-1] = label
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
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
    colours = [_opinion(-change) for change in shown["change"]]
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
