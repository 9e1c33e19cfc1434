"""Figures of the graph: map, class mixing, adjacency, edges as pairs, ego graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import networkx
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_name, plain_names
from cnn2gnn.drawing.palette import CORRECT, EDGE, INK, WRONG
from cnn2gnn.drawing.pictures import draw_adjacency, draw_class_matrix, pixels_of, show_image
from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes
from cnn2gnn.explore.colouring import Colouring
from cnn2gnn.explore.pictures import Images

NODE, NEIGHBOUR = "class of the node", "class of the neighbour"  # what looks, what is looked at


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
        axes.add_collection(LineCollection(ends, linewidths=_line_widths(weights), colors=EDGE))
    axes.scatter(x[node], y[node], s=90, facecolors="none", edgecolors=INK, linewidths=1.8)
    names = plain_names(colours.names, 24)
    for name, colour in zip(names[:12], colours.colours, strict=False):
        axes.scatter([], [], s=20, color=colour, label=name)
    figure.legend(loc="outside right upper")
    axes.set(xticks=[], yticks=[], title=title)
    return figure


def matrix_figure(mixing: Tensor, classes: Sequence[str]) -> Figure:
    """Draw the class-to-class edge mass `(C, C)`; rows look, columns are looked at."""
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    draw_class_matrix(figure.add_subplot(), mixing, classes, NODE, NEIGHBOUR)
    return figure


def adjacency_figure(nodes: RunNodes) -> Figure:
    """Draw all edges, both sides ordered by class: blocks on the diagonal are pure."""
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    labels, axes = nodes.labels, figure.add_subplot()
    draw_adjacency(axes, nodes.graph, labels[TEST], labels[BANK], nodes.classes)
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
        show_image(above, images(Node(TEST, int(edge["test"]))))
        show_image(below, images(Node(BANK, int(edge["bank"]))), same)
        label, other = (plain_name(edge[name], 10) for name in ("label", "neighbour_label"))
        above.set_title(f"{label}\ntest {edge['test']}")
        below.set_title(f"{edge['weight']:.3f}")
        below.set_xlabel(f"{other}\nbank {edge['bank']}")
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
    widths = _line_widths(np.array([weight for _, _, weight in edges]))
    axes.add_collection(LineCollection(lines, linewidths=widths, colors=EDGE, alpha=0.5))
    for node, hop in graph.nodes(data="hop"):
        pixels = pixels_of(images(node))
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


def _line_widths(weights: Tensor | np.ndarray) -> np.ndarray:
    """Line widths in points, up to 6 for a weight of 1."""
    return 0.4 + 5.6 * np.asarray(weights)


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
