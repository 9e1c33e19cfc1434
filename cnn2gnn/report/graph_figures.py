"""Figures of the learned graph: edges from test images (rows) to images of the bank (columns)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.graph import SparseGraph, degree, effective_neighbours
from cnn2gnn.palette import AGAINST, EDGE, FAINT, FOR, INK, SEQUENTIAL, class_colours
from cnn2gnn.report.prediction_figures import READABLE
from cnn2gnn.report.style import PAGE, SMALLEST, new_figure, styled

_BLOCKS = 200  # of the adjacency matrix along a side: more could not be seen in print
_EDGES = 3000  # on the map: the heaviest of so many test images


@styled
def adjacency(
    graph: SparseGraph, labels: Tensor, bank_labels: Tensor, classes: Sequence[str]
) -> Figure:
    """The adjacency matrix, both sides ordered by class, in blocks; 1 is what chance would give.

    Args:
        labels: `(N,)`; bank_labels: `(M,)`.
    """
    row = _place(labels, min(_BLOCKS, len(labels)))  # (N,)
    column = _place(bank_labels, min(_BLOCKS, len(bank_labels)))  # (M,)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    cell = row[:, None] * shape[1] + column[graph.neighbours]  # (N, k)
    mass = torch.zeros(shape[0] * shape[1]).index_add_(0, cell.flatten(), graph.weights.flatten())
    chance = row.bincount()[:, None] * column.bincount() / len(bank_labels)
    times_chance = (mass.unflatten(0, shape) / chance).numpy()
    figure = new_figure(height=3.1)
    axes = figure.add_subplot()
    norm = LogNorm(0.1, max(times_chance.max(), 1.0))
    shown = np.ma.masked_less(times_chance, 0.1)
    extent = (0, len(bank_labels), len(labels), 0)
    look: dict[str, Any] = {
        "cmap": f"{SEQUENTIAL}_r",
        "norm": norm,
        "extent": extent,
        "aspect": "auto",
    }
    picture = axes.imshow(shown, interpolation="nearest", **look)
    if len(classes) <= READABLE:
        _class_ticks(axes, labels, bank_labels, classes)
    axes.set_xlabel("bank images, by class")
    axes.set_ylabel("test images, by class")
    figure.colorbar(picture, label="edge weight [× chance]").outline.set_visible(False)
    return figure


def _place(labels: Tensor, blocks: int) -> Tensor:
    """The block of each node once nodes are ordered by class."""
    order = labels.argsort(stable=True).argsort()  # place of each node
    return order * blocks // len(labels)


def _class_ticks(axes: Axes, labels: Tensor, bank_labels: Tensor, classes: Sequence[str]) -> None:
    for axis, line, nodes in (
        (axes.yaxis, axes.axhline, labels),
        (axes.xaxis, axes.axvline, bank_labels),
    ):
        counts = nodes.bincount(minlength=len(classes))
        ends = counts.cumsum(0)
        axis.set_ticks((ends - counts / 2).tolist(), classes)
        axis.set_tick_params(length=0)
        for end in ends[:-1].tolist():
            line(end, color=FAINT, linewidth=0.4)
    axes.tick_params(axis="x", rotation=90)


@styled
def distributions(graphs: Sequence[SparseGraph]) -> Figure:
    """Degrees of the bank's images, edge weights and effective neighbours, pooled over runs."""
    k = graphs[0].neighbours.shape[1]
    degrees = torch.cat([degree(graph) for graph in graphs]).numpy()
    weights = torch.cat([graph.weights.flatten() for graph in graphs]).numpy()
    effective = torch.cat([effective_neighbours(graph.weights) for graph in graphs]).numpy()
    figure = new_figure(PAGE, 2.1)
    left, middle, right = figure.subplots(1, 3)
    for axes, values, bins, name in (
        (left, degrees, _whole_bins(degrees.max()), "in-degree of a bank image [edges]"),
        (middle, weights, np.linspace(0, max(weights.max(), 1e-6), 31), "edge weight s"),
        (right, effective, np.linspace(1, k, 31), "effective neighbours exp(H)"),
    ):
        share = np.full(len(values), 100 / len(values))
        axes.hist(values, bins=bins, weights=share, color=FOR)
        mean = float(values.mean())
        axes.axvline(mean, color=INK, linewidth=0.8, ls="--")
        axes.set_title(f"mean {mean:.3g}")
        axes.set_xlabel(name)
    left.set_yscale("log")
    left.set_ylabel("bank images [%]")
    middle.set_yscale("log")
    middle.set_ylabel("edges [%]")
    right.set_ylabel("test images [%]")
    return figure


def _whole_bins(largest: int) -> np.ndarray:
    step = max(1, -(-(int(largest) + 1) // 40))
    return np.arange(0, largest + step + 1, step) - 0.5


@styled
def homophily_against_accuracy(per_class: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """One class a mark: accuracy with neighbours (filled) and alone (hollow) over homophily.

    Args:
        per_class: as of `measures.per_class`, of one run or of several.
    """
    table = per_class.groupby("class", sort=False).mean(numeric_only=True).loc[list(classes)]
    figure = new_figure(height=2.9 if len(classes) <= READABLE else 2.6)
    axes = figure.add_subplot()
    x, y, own = (100 * table[name] for name in ("homophily", "accuracy", "base_accuracy"))
    colours = class_colours(len(classes))
    axes.vlines(x, own, y, color=colours, linewidth=0.8)
    axes.scatter(x, own, s=14, facecolors="white", edgecolors=colours, linewidths=0.8, zorder=2)
    for name, colour in zip(classes, colours, strict=True):
        label = name if len(classes) <= READABLE else None
        axes.scatter(x[name], y[name], s=18, color=colour, label=label, zorder=3)
    if len(classes) > READABLE:
        for name in {*y.nsmallest(3).index, *x.nsmallest(2).index, *y.nlargest(1).index}:
            place = (x[name], y[name])
            axes.annotate(name, place, (3, -8), textcoords="offset points", fontsize=SMALLEST)
    else:
        figure.legend(loc="outside right upper", handletextpad=0.1, labelspacing=0.3)
    if x.nunique() > 1 and y.nunique() > 1:
        axes.set_title(f"Spearman ρ = {x.corr(y, method='spearman'):.2f}")
    axes.set_xlabel("homophily of the class [% of its edges]")
    axes.set_ylabel("test accuracy [%]")
    axes.margins(0.08)
    return figure


@styled
def umap_with_edges(
    places: Tensor, graph: SparseGraph, labels: Tensor, bank_labels: Tensor, classes: Sequence[str]
) -> Figure:
    """Test images (large) and bank images (small) on the map, with each one's heaviest edge.

    Args:
        places: `(N + M, 2)`, test images first.
    """
    figure = new_figure(PAGE, 4.6)
    axes = figure.add_subplot()
    test, bank = places[: len(labels)].numpy(), places[len(labels) :].numpy()  # (N, 2), (M, 2)
    weights, slots = graph.weights.max(1)
    shown = weights.argsort(descending=True)[:_EDGES]
    ends = graph.neighbours.gather(1, slots[:, None])[shown, 0]
    same = (labels[shown] == bank_labels[ends]).numpy()
    lines = np.stack([test[shown], bank[ends]], axis=1)  # (E, 2, 2)
    palette = np.array(class_colours(len(classes)))
    for chosen, colour, alpha in ((same, EDGE, 0.35), (~same, AGAINST, 0.9)):
        edges = LineCollection(lines[chosen], colors=colour, linewidths=0.5, alpha=alpha)
        edges.set_rasterized(True)
        axes.add_collection(edges)
    look: dict[str, Any] = {"linewidths": 0, "rasterized": True}
    axes.scatter(bank[:, 0], bank[:, 1], s=2, c=palette[bank_labels], alpha=0.35, zorder=0, **look)
    axes.scatter(test[:, 0], test[:, 1], s=8, c=palette[labels], zorder=3, **look)
    if len(classes) <= READABLE:
        for name, colour in zip(classes, palette, strict=True):
            axes.scatter([], [], s=16, color=colour, label=name)
    axes.plot([], [], color=EDGE, label="heaviest edge")
    axes.plot([], [], color=AGAINST, label="into another class")
    figure.legend(loc="outside right upper")
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1 [no unit]", ylabel="UMAP 2 [no unit]")
    return figure
