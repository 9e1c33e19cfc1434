"""Images with the neighbours that the student chose for them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.palette import CORRECT, INK, WRONG
from cnn2gnn.drawing.pictures import show_image
from cnn2gnn.drawing.style import PAGE, SMALLEST, new_figure, styled
from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes

NEIGHBOURS = 6
_ABOVE, _BESIDE = 10, 14  # letters of a class name that fit there


@styled
def neighbour_sheet(nodes: RunNodes, chosen: Sequence[int]) -> Figure:
    """One test image a row: what is said of it, the image, and its heaviest neighbours.

    A frame tells whether a neighbour is of the image's class (blue) or not (vermilion, dashed).

    Args:
        chosen: indices of test images.
    """
    figure = new_figure(PAGE, 0.87 * len(chosen))
    ratios = [1.7, *[1] * (1 + NEIGHBOURS)]
    grid = figure.subplots(len(chosen), 2 + NEIGHBOURS, squeeze=False, width_ratios=ratios)
    for axes in grid.flat:
        axes.set_axis_off()
    above, beside = (plain_names(nodes.classes, most) for most in (_ABOVE, _BESIDE))
    for row, index in zip(grid, chosen, strict=True):
        row[0].text(0, 0.5, describe(nodes, index, beside), va="center", fontsize=SMALLEST)
        show_image(row[1], nodes.image(Node(TEST, index)), INK)
        label = nodes.labels[TEST][index]
        heaviest = nodes.graph.weights[index].argsort(descending=True)[:NEIGHBOURS].tolist()
        for axes, slot in zip(row[2:], heaviest, strict=False):
            neighbour = int(nodes.graph.neighbours[index, slot])
            same = bool(nodes.labels[BANK][neighbour] == label)
            frame = (CORRECT, "-") if same else (WRONG, "--")
            show_image(axes, nodes.image(Node(BANK, neighbour)), *frame)
            name = above[int(nodes.labels[BANK][neighbour])]
            axes.set_title(f"{name}\n{nodes.graph.weights[index, slot]:.2f}", fontsize=SMALLEST)
    return figure


def describe(nodes: RunNodes, index: int, names: Sequence[str]) -> str:
    """Three lines on a test image: its class, what the student says with and without neighbours."""
    label = int(nodes.labels[TEST][index])

    def said(logits: Tensor) -> str:
        probability, predicted = logits.softmax(0).max(0)
        return f"{names[int(predicted)]} ({100 * probability:.0f} %)"

    return (
        f"test {index}: {names[label]}\n"
        f"graph: {said(nodes.logits[index])}\n"
        f"no_graph: {said(nodes.base_logits[TEST][index])}"
    )
