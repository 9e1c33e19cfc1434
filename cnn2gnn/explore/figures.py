"""Figures of the explorer: pure functions of data, each returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import networkx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from cnn2gnn.explore.card import NodeCard
from cnn2gnn.explore.colouring import Colouring
from cnn2gnn.explore.nodes import Node
from cnn2gnn.explore.palette import (
    AGAINST,
    CORRECT,
    EDGE,
    FAINT,
    FOR,
    INK,
    MODELS,
    SEQUENTIAL,
    VERDICTS,
    WRONG,
)
from cnn2gnn.explore.timeline import Timeline
from cnn2gnn.explore.whatif import Prediction

Images = Callable[[Node], Tensor]


def map_figure(
    places: Tensor,
    colours: Colouring,
    count: int,
    *,
    node: int,
    neighbours: Sequence[int],
    weights: Tensor,
    title: str = "",
) -> Figure:
    """Draw all nodes, with the edges of one of them as wide as their weight.

    Args:
        places: `(N + M, 2)`; the first `count` are test nodes, the others stand behind them.
        colours: of all rows.
        node, neighbours: rows; weights: `(k,)`.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    x, y = places.numpy().T
    shown = np.asarray(colours.colours, dtype=object)[colours.codes]
    axes.scatter(x[count:], y[count:], s=3, c=shown[count:], alpha=0.25, linewidths=0)
    axes.scatter(x[:count], y[:count], s=9, c=shown[:count], linewidths=0)
    ends = [[(x[node], y[node]), (x[other], y[other])] for other in neighbours]
    if ends:
        axes.add_collection(LineCollection(ends, linewidths=_widths(weights), colors=EDGE))
    axes.scatter(x[node], y[node], s=90, facecolors="none", edgecolors=INK, linewidths=1.8)
    for name, colour in zip(colours.names[:12], colours.colours, strict=False):
        axes.scatter([], [], s=20, color=colour, label=name)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.set(xticks=[], yticks=[], title=title)
    return figure


def card_figure(card: NodeCard, images: Images) -> Figure:
    """Draw a node, what is said of it, and its neighbours with weight and label."""
    shown = card.neighbours.head(20)
    columns = 10
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(8.4, 2.3 + 1.15 * rows), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=[2.3, 1.15 * max(rows, 1)])
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    left, middle = top.subplots(1, 2, width_ratios=[1, 3])
    _image(left, images(card.node))
    left.set_title(
        f"{card.node}: {card.label}\n{card.verdict}", color=VERDICTS[card.verdict], fontsize=10
    )
    _opinions(middle, card)
    for axes in bottom.subplots(max(rows, 1), columns, squeeze=False).flat[len(shown) :]:
        axes.set_axis_off()
    for axes, (_, edge) in zip(bottom.axes, shown.iterrows(), strict=False):
        _image(axes, images(edge["node"]), CORRECT if edge["same_class"] else WRONG)
        axes.set_title(f"{edge['label']}\n{edge['weight']:.3f}", fontsize=8)
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
        names: what the neighbours are called, k of them.
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
        axes.set_yticks(places, names, fontsize=8)
        axes.invert_yaxis()
        own, final = float(prediction.own_logits[index]), float(prediction.logits[index])
        role = " (true)" if index == label else " (predicted)"
        axes.set_title(
            f"{classes[index]}{role}: {own:+.2f} {bars.sum():+.2f} = {final:+.2f}", fontsize=9
        )
        axes.set_xlabel("added to the logit", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
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
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    names = [classes[index] + (" (true)" if index == label else "") for index in best]
    axes.set_xticks(places, names, fontsize=8)
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("probability", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(fontsize=8, frameon=False)
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
    names = [f"{node} ({name})" for node, name in zip(shown["node"], shown["label"], strict=True)]
    left.set_yticks(places, names, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("change of probability without it", fontsize=8)
    right.barh(places, shown["weight"], color=FAINT)
    right.set_xlabel("weight", fontsize=8)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
    return figure


def matrix_figure(mixing: Tensor, classes: Sequence[str], title: str = "") -> Figure:
    """Draw the class-to-class edge mass `(C, C)`; rows look, columns are looked at."""
    size = 4.6 if len(classes) <= 20 else 6.4
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    _matrix(figure, figure.add_subplot(), mixing, classes, title)
    return figure


def adjacency_figure(
    neighbours: Tensor, weights: Tensor, labels: Tensor, source_labels: Tensor
) -> Figure:
    """Draw every edge as a dot, both sides ordered by class: blocks on the diagonal are pure.

    Args:
        neighbours, weights: `(N, k)`; labels: `(N,)`; source_labels: `(M,)`.
    """
    place = labels.argsort(stable=True).argsort()  # (N,)
    source_place = source_labels.argsort(stable=True).argsort()  # (M,)
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    dots = axes.scatter(
        source_place[neighbours].flatten().numpy(),
        place[:, None].expand_as(neighbours).flatten().numpy(),
        c=weights.flatten().numpy(),
        s=1.5,
        cmap=f"{SEQUENTIAL}_r",
        linewidths=0,
        rasterized=True,
    )
    for position in labels.bincount().cumsum(0)[:-1].tolist():
        axes.axhline(position - 0.5, color=FAINT, linewidth=0.5)
    for position in source_labels.bincount().cumsum(0)[:-1].tolist():
        axes.axvline(position - 0.5, color=FAINT, linewidth=0.5)
    axes.set(
        xlim=(0, len(source_labels)),
        ylim=(len(labels), 0),
        xlabel="bank nodes, by class",
        ylabel="test nodes, by class",
    )
    figure.colorbar(dots, label="edge weight")
    return figure


def pairs_figure(edges: pd.DataFrame, images: Images, most: int = 8) -> Figure:
    """Draw edges as pairs of images: a test node above the bank node that it looks at."""
    shown = edges.head(most)
    figure = Figure(figsize=(1.05 * max(len(shown), 2), 2.6), layout="constrained")
    if shown.empty:
        figure.text(0.5, 0.5, "no edges", ha="center")
        return figure
    grid = figure.subplots(2, len(shown), squeeze=False)
    for (_, edge), (above, below) in zip(shown.iterrows(), grid.T, strict=True):
        same = CORRECT if edge["label"] == edge["neighbour_label"] else WRONG
        _image(above, images(Node("test", int(edge["test"]))))
        _image(below, images(Node("bank", int(edge["bank"]))), same)
        above.set_title(f"{edge['label']}\ntest {edge['test']}", fontsize=8)
        below.set_title(f"{edge['weight']:.3f}", fontsize=8)
        below.set_xlabel(f"{edge['neighbour_label']}\nbank {edge['bank']}", fontsize=8)
    return figure


def ego_figure(
    graph: networkx.DiGraph, images: Images, same_class: Callable[[Node], bool]
) -> Figure:
    """Draw an ego graph with thumbnails as nodes; frames tell whether the class is the centre's."""
    figure = Figure(figsize=(6.4, 6.4))
    axes = figure.add_axes((0, 0, 1, 1))
    places = _rings(graph)
    edges = list(graph.edges(data="weight"))
    lines = [(places[start], places[end]) for start, end, _ in edges]
    widths = _widths(np.array([weight for _, _, weight in edges]))
    axes.add_collection(LineCollection(lines, linewidths=widths, colors=EDGE, alpha=0.5))
    for node, hop in graph.nodes(data="hop"):
        pixels = _pixels(images(node))
        box = OffsetImage(
            pixels, zoom=(46, 34, 22)[hop] / max(pixels.shape[:2]), cmap="gray", resample=False
        )
        colour = INK if hop == 0 else CORRECT if same_class(node) else WRONG
        frame = {"edgecolor": colour, "linewidth": 1.8, "boxstyle": "square,pad=0.12"}
        axes.add_artist(AnnotationBbox(box, places[node], bboxprops=frame, pad=0.1))
    reach = max(hop for _, hop in graph.nodes(data="hop")) + 0.3
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_axis_off()
    return figure


def timeline_figure(timelines: Sequence[Timeline], epoch: int | None = None) -> Figure:
    """Draw how graphs changed: purity, homophily, effective neighbours, accuracy by epoch."""
    figure = Figure(figsize=(8.4, 2.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    styles = ("-", "--")
    for timeline, style in zip(timelines, styles, strict=False):
        table = timeline.table
        for axes, column, colour in (
            (left, "purity", FOR),
            (left, "homophily", "#e69f00"),
            (middle, "effective_neighbours", FOR),
            (right, "own_accuracy", MODELS["own"]),
        ):
            if column in table:
                name = f"{column.replace('_', ' ')}, {timeline.name}"
                axes.plot(table.index, table[column], style, color=colour, marker=".", label=name)
    for axes in (left, middle, right):
        if epoch is not None:
            axes.axvline(epoch, color=FAINT, zorder=0)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7, frameon=False)
    left.set_ylabel("share of weight, of edges", fontsize=8)
    middle.set_ylabel("neighbours", fontsize=8)
    right.set_ylabel("validation accuracy", fontsize=8)
    return figure


def evolution_figure(timelines: Sequence[Timeline], epoch: int, classes: Sequence[str]) -> Figure:
    """Draw class mixing after an epoch, runs side by side; a run without it shows its last."""
    with_graph = [timeline for timeline in timelines if timeline.epochs]
    figure = Figure(figsize=(4.4 * max(len(with_graph), 1), 3.8), layout="constrained")
    for place, timeline in enumerate(with_graph):
        shown = epoch if epoch in timeline.mixing else timeline.epochs[-1]
        axes = figure.add_subplot(1, len(with_graph), place + 1)
        _matrix(figure, axes, timeline.mixing[shown], classes, f"{timeline.name}, epoch {shown}")
    return figure


def _matrix(figure: Figure, axes: Axes, mixing: Tensor, classes: Sequence[str], title: str) -> None:
    # the square root: a light wrong-class cell is what one looks for
    picture = axes.imshow(mixing.numpy(), cmap=SEQUENTIAL, norm=PowerNorm(0.5, 0, 1))
    if len(classes) <= 30:
        size = 8 if len(classes) <= 15 else 6
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
        axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set_xlabel("class of the neighbour", fontsize=8)
    axes.set_ylabel("class of the node", fontsize=8)
    axes.set_title(title, fontsize=9)
    figure.colorbar(picture, ax=axes, label="share of weight")


def _opinions(axes: Axes, card: NodeCard) -> None:
    """Draw the three likeliest classes of teacher, student and own branch as bars."""
    opinions = {"teacher": card.teacher, "student": card.student, "own": card.own}
    lines = [
        (f"{model}: {name}", probability, MODELS[model])
        for model, opinion in opinions.items()
        for name, probability in opinion or []
    ]
    places = np.arange(len(lines))
    bars = axes.barh(places, [line[1] for line in lines], color=[line[2] for line in lines])
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.set_yticks(places, [line[0] for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(f"probability; gate {card.gate:.2f}", fontsize=9)


def _rings(graph: networkx.DiGraph) -> dict[Node, tuple[float, float]]:
    """The centre in the middle, neighbours on a circle, theirs near them on a second one."""
    places: dict[Node, tuple[float, float]] = {}
    hops = dict(graph.nodes(data="hop"))
    angles: dict[Node, float] = {}
    for ring in range(3):
        members = [node for node, hop in hops.items() if hop == ring]
        if ring == 2:
            members.sort(key=lambda node: min(angles[p] for p in graph.predecessors(node)))
        for place, node in enumerate(members):
            angle = 2 * np.pi * place / len(members)
            angles[node] = angle
            places[node] = (ring * float(np.cos(angle)), ring * float(np.sin(angle)))
    return places


def _image(axes: Axes, image: Tensor, frame: str = FAINT) -> None:
    axes.imshow(_pixels(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=frame, linewidth=2.0)


def _pixels(image: Tensor) -> np.ndarray:
    """`(C, H, W)` to what imshow takes: `(H, W)` for one channel, `(H, W, 3)` for three."""
    return image[0].numpy() if len(image) == 1 else image[:3].permute(1, 2, 0).numpy()


def _widths(weights: Tensor | np.ndarray) -> np.ndarray:
    """Line widths in points, up to 6 for a weight of 1."""
    return 0.4 + 5.6 * np.asarray(weights)
