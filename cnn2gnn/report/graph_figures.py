"""Figures of the learned graph: edges from test images (rows) to images of the bank (columns)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.palette import AGAINST, EDGE, FOR, INK, class_colours
from cnn2gnn.drawing.pictures import READABLE, draw_adjacency
from cnn2gnn.drawing.style import PAGE, SMALLEST, new_figure, styled
from cnn2gnn.graph import SparseGraph, degree, effective_neighbours

_EDGES = 3000  # on the map: the heaviest of so many test images
_FEWEST = 5  # classes that a rank correlation is told of: that of two is ±1, whatever they are


@styled
def adjacency(
    graph: SparseGraph, labels: Tensor, bank_labels: Tensor, classes: Sequence[str]
) -> Figure:
    """The adjacency matrix, both sides ordered by class, in blocks; 1 is what chance would give.

    Args:
        labels: `(N,)`; bank_labels: `(M,)`.
    """
    figure = new_figure(height=3.1)
    draw_adjacency(figure.add_subplot(), graph, labels, bank_labels, classes)
    return figure


@styled
def distributions(graphs: Sequence[SparseGraph]) -> Figure:
    """Degrees of the bank's images, edge weights and effective neighbours, pooled over runs."""
    k = graphs[0].neighbours.shape[1]
    degrees = torch.cat([degree(graph) for graph in graphs]).numpy()
    weights = torch.cat([graph.weights.flatten() for graph in graphs]).numpy()
    effective = torch.cat([effective_neighbours(graph.weights) for graph in graphs]).numpy()
    effective = effective.clip(1, k)  # of equal weights it is k, but for rounding
    figure = new_figure(PAGE, 2.1)
    left, middle, right = figure.subplots(1, 3)
    for axes, values, bins, name in (
        (left, degrees, _whole_bins(degrees.max()), "in-degree of a bank node [edges]"),
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
    left.set_ylabel("bank nodes [%]")
    middle.set_yscale("log")
    middle.set_ylabel("edges [%]")
    right.set_ylabel("test nodes [%]")
    return figure


def _whole_bins(largest: int) -> np.ndarray:
    step = max(1, -(-(int(largest) + 1) // 40))
    return np.arange(0, largest + step + 1, step) - 0.5


@styled
def homophily_against_accuracy(per_class: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """One class a mark: accuracy with neighbours (filled) and without (hollow) over homophily.

    From five classes on, whose values are known, Spearman's rank correlation stands above.

    Args:
        per_class: as of `measures.per_class`, of one run or of several.
    """
    table = per_class.groupby("class", sort=False).mean(numeric_only=True).loc[list(classes)]
    figure = new_figure(height=2.9 if len(classes) <= READABLE else 2.6)
    axes = figure.add_subplot()
    x, y, base = (100 * table[name] for name in ("homophily", "accuracy", "base_accuracy"))
    colours, shown = class_colours(len(classes)), plain_names(classes)
    axes.vlines(x, base, y, color=colours, linewidth=0.8)
    axes.scatter(x, base, s=14, facecolors="white", edgecolors=colours, linewidths=0.8, zorder=2)
    for name, short, colour in zip(classes, shown, colours, strict=True):
        label = short if len(classes) <= READABLE else None
        axes.scatter(x[name], y[name], s=18, color=colour, label=label, zorder=3)
    if len(classes) > READABLE:
        short_of = dict(zip(classes, shown, strict=True))
        for name in {*y.nsmallest(3).index, *x.nsmallest(2).index, *y.nlargest(1).index}:
            near: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALLEST}
            axes.annotate(short_of[name], (x[name], y[name]), (3, -8), **near)
    else:
        figure.legend(loc="outside right upper", handletextpad=0.1, labelspacing=0.3)
    known = x.notna() & y.notna()
    if known.sum() >= _FEWEST and x[known].nunique() > 1 and y[known].nunique() > 1:
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
        for name, colour in zip(plain_names(classes), palette, strict=True):
            axes.scatter([], [], s=16, color=colour, label=name)
    axes.plot([], [], color=EDGE, label="heaviest edge")
    axes.plot([], [], color=AGAINST, label="into another class")
    figure.legend(loc="outside right upper")
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1 [no unit]", ylabel="UMAP 2 [no unit]")
    return figure
