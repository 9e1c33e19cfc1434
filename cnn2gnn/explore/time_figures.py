"""Figures of how graphs changed while their students learned."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from cnn2gnn.drawing.lettering import plain_name
from cnn2gnn.drawing.palette import FOR, MODELS
from cnn2gnn.drawing.pictures import draw_class_matrix
from cnn2gnn.explore.graph_figures import NEIGHBOUR, NODE
from cnn2gnn.explore.timeline import Timeline


def timeline_figure(timelines: Sequence[Timeline]) -> Figure:
    """Draw how graphs changed: purity, homophily, effective neighbours, accuracy by pass."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    styles = ("-", "--")
    for timeline, style in zip(timelines, styles, strict=False):
        table = timeline.table
        for axes, column, colour in (
            (left, "purity", FOR),
            (left, "homophily", "#e69f00"),
            (middle, "effective_neighbours", FOR),
            (right, "base_accuracy", MODELS["no_graph"]),
        ):
            if column in table:
                name = f"{column.replace('_', ' ')}, {plain_name(timeline.name)}"
                axes.plot(table.index, table[column], style, color=colour, marker=".", label=name)
    for axes in (left, middle, right):
        axes.set_xlabel("pass of stage two")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1))  # above, where no curve can be
    left.set_ylabel("share of weight, of edges")
    middle.set_ylabel("neighbours")
    right.set_ylabel("validation accuracy")
    return figure


def evolution_figure(timelines: Sequence[Timeline], classes: Sequence[str]) -> Figure:
    """Draw class mixing after the first and the last pass that was saved, a row per run."""
    figure = Figure(figsize=(8.8, 3.8 * len(timelines)), layout="constrained")
    grid = figure.subplots(len(timelines), 2, squeeze=False)
    for timeline, row in zip(timelines, grid, strict=True):
        for axes, number in zip(row, (timeline.passes[0], timeline.passes[-1]), strict=True):
            title = f"{plain_name(timeline.name)}, after pass {number}"
            draw_class_matrix(axes, timeline.mixing[number], classes, NODE, NEIGHBOUR)
            axes.set_title(title)
    return figure
