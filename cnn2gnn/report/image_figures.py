"""Test nodes in pictures, with the neighbours that the student chose for them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.palette import CORRECT, INK, WRONG
from cnn2gnn.drawing.pictures import place_image
from cnn2gnn.drawing.style import PAGE, SMALLEST, styled
from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes

NEIGHBOURS = 6
# in inches
_SIDE, _COLUMN, _ROW = 0.62, 0.79, 0.98
_FIRST, _TOP = 1.5, 0.32  # left edge of the first column, place of a picture within its row
_ABOVE, _BESIDE = 10, 14  # letters of a class name that fit there
_BEHIND = 4  # letters of one that fit behind a model and its probability


@styled
def neighbour_sheet(nodes: RunNodes, chosen: Sequence[int]) -> Figure:
    """One test node a row: what is said of it, its picture, and its heaviest neighbours.

    A frame tells whether a neighbour is of the node's class (blue) or not (vermilion, dashed).
    All of it is in one pair of axes, in inches: axes for each picture take three times as long.

    Args:
        chosen: indices of test nodes.
    """
    height = _ROW * len(chosen)
    figure = Figure(figsize=(PAGE, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    above, beside = (plain_names(nodes.classes, most) for most in (_ABOVE, _BESIDE))
    for row, index in enumerate(chosen):
        top = row * _ROW + _TOP
        said = describe(nodes, index, beside)
        axes.text(0.05, top + _SIDE / 2, said, va="center", fontsize=SMALLEST)
        place_image(axes, nodes.image(Node(TEST, index)), (_FIRST, top), _SIDE, INK)
        label = nodes.labels[TEST][index]
        heaviest = nodes.graph.weights[index].argsort(descending=True)[:NEIGHBOURS].tolist()
        for column, slot in enumerate(heaviest, 1):
            neighbour = int(nodes.graph.neighbours[index, slot])
            same = bool(nodes.labels[BANK][neighbour] == label)
            frame, left = (CORRECT, "-") if same else (WRONG, "--"), _FIRST + column * _COLUMN
            place_image(axes, nodes.image(Node(BANK, neighbour)), (left, top), _SIDE, *frame)
            name = above[int(nodes.labels[BANK][neighbour])]
            name = f"{name}\n{nodes.graph.weights[index, slot]:.2f}"
            middle = left + _SIDE / 2
            axes.text(middle, top - 0.03, name, ha="center", va="bottom", fontsize=SMALLEST)
    return figure


def describe(nodes: RunNodes, index: int, names: Sequence[str]) -> str:
    """Some lines on a test node: its class, what the student says with and without neighbours."""
    label = int(nodes.labels[TEST][index])

    def said(model: str, logits: Tensor) -> str:
        probability, predicted = logits.softmax(0).max(0)
        name = names[int(predicted)]
        between = " " if len(name) <= _BEHIND else "\n"  # a longer one would reach the picture
        return f"{model}, {100 * probability:.0f} %:{between}{name}"

    return (
        f"test {index}: {names[label]}\n"
        f"{said('graph', nodes.logits[index])}\n"
        f"{said('no_graph', nodes.base_logits[TEST][index])}"
    )
