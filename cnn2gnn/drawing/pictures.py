"""Pictures that explorer and report draw alike: an image, class against class, the adjacency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.palette import FAINT, SEQUENTIAL
from cnn2gnn.drawing.style import SMALLEST
from cnn2gnn.graph import SparseGraph, shares

READABLE = 20  # classes whose names fit along a column
NUMBERED = 12  # classes whose cells hold a number
_BLOCKS = 200  # of the adjacency matrix along a side: more could not be seen in print


def pixels_of(image: Tensor) -> np.ndarray:
    """`(C, H, W)` to what imshow takes: `(H, W)` for one channel, `(H, W, 3)` for three."""
    return image[0].numpy() if len(image) == 1 else image[:3].permute(1, 2, 0).numpy()


def show_image(axes: Axes, image: Tensor, frame: str = FAINT, line: str = "-") -> None:
    """Fill axes with an image `(C, H, W)`, in a frame of this colour and line style."""
    axes.imshow(pixels_of(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=frame, linestyle=line, linewidth=1.5)


def place_image(
    axes: Axes, image: Tensor, corner: tuple[float, float], side: float, frame: str, line: str = "-"
) -> None:
    """Put an image `(C, H, W)` into axes whose y grows downwards, in a square with a frame.

    Args:
        corner: left and upper edge of the square; side: its length, both in data units.
    """
    (left, top), (height, width) = corner, image.shape[1:]
    fit = side / max(height, width)
    x, y = left + (side - fit * width) / 2, top + (side - fit * height) / 2
    pixels, extent = pixels_of(image), (x, x + fit * width, y + fit * height, y)
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    axes.imshow(pixels, extent=extent, aspect="auto", **look)
    outline = Rectangle((x, y), fit * width, fit * height, fill=False)
    outline.set(edgecolor=frame, linestyle=line, linewidth=1.5)
    axes.add_patch(outline)


def draw_class_matrix(
    axes: Axes, shares: Tensor, classes: Sequence[str], rows: str, columns: str
) -> None:
    """Draw shares of each row's class in %, with names and numbers where they are legible.

    Args:
        shares: `(C, C)`, rows sum to 1, or are NaN and stay white: of the class there is nothing.
        rows, columns: what the axes show.
    """
    # the square root: the rare mistakes are what one looks for
    picture = axes.imshow(100 * shares.numpy(), cmap=SEQUENTIAL, norm=PowerNorm(0.5, 0, 100))
    axes.set(xticks=[], yticks=[], xlabel=columns, ylabel=rows)
    if len(classes) <= READABLE:
        names = plain_names(classes)
        axes.set_xticks(range(len(classes)), names, rotation=90)
        axes.set_yticks(range(len(classes)), names)
    if len(classes) <= NUMBERED:
        _numbers(axes, 100 * shares)
    axes.spines[:].set_visible(False)
    _scale(axes, picture, "share of the row [%]", ticks=[0, 1, 5, 20, 50, 100])


def _numbers(axes: Axes, percent: Tensor) -> None:
    for row, values in enumerate(percent.tolist()):
        for column, value in enumerate(values):
            if value >= 0.5:
                colour = "white" if value < 25 else "black"
                place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALLEST}
                axes.text(column, row, f"{value:.0f}", color=colour, **place)


def _scale(axes: Axes, picture: AxesImage, label: str, **look: Any) -> None:
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(picture, ax=axes, label=label, **look).outline.set_visible(False)


def draw_adjacency(
    axes: Axes, graph: SparseGraph, labels: Tensor, bank_labels: Tensor, classes: Sequence[str]
) -> None:
    """Draw the adjacency matrix in blocks, both sides ordered by class; 1 is what chance gives.

    Args:
        labels: `(N,)`; bank_labels: `(M,)`.
    """
    times_chance = adjacency_blocks(graph, labels, bank_labels).numpy()
    picture = axes.imshow(
        np.ma.masked_less(times_chance, 0.1),
        cmap=f"{SEQUENTIAL}_r",
        norm=LogNorm(0.1, max(times_chance.max(), 1.0)),
        extent=(0, len(bank_labels), len(labels), 0),
        aspect="auto",
        interpolation="nearest",
    )
    if len(classes) <= READABLE:
        _class_ticks(axes, labels, bank_labels, plain_names(classes))
    axes.set(xlabel="bank nodes, by class", ylabel="test nodes, by class")
    _scale(axes, picture, "edge weight [× chance]")


def adjacency_blocks(graph: SparseGraph, labels: Tensor, bank_labels: Tensor) -> Tensor:
    """The weight of each block of the adjacency matrix, in multiples of what chance would give.

    Args:
        labels: `(N,)`; bank_labels: `(M,)`: both sides are ordered by them.

    Returns:
        At most 200 blocks a side.
    """
    row = _block(labels, min(_BLOCKS, len(labels)))  # (N,)
    column = _block(bank_labels, min(_BLOCKS, len(bank_labels)))  # (M,)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    cell = row[:, None] * shape[1] + column[graph.neighbours]  # (N, k)
    weights = shares(graph.weights).flatten()
    mass = torch.zeros(shape[0] * shape[1]).index_add_(0, cell.flatten(), weights)
    chance = row.bincount()[:, None] * column.bincount() / len(bank_labels)
    return mass.unflatten(0, shape) / chance


def _block(labels: Tensor, blocks: int) -> Tensor:
    """The block of each node once nodes are ordered by class."""
    order = labels.argsort(stable=True).argsort()  # place of each node
    return order * blocks // len(labels)


def _class_ticks(axes: Axes, labels: Tensor, bank_labels: Tensor, names: Sequence[str]) -> None:
    for axis, line, nodes in (
        (axes.yaxis, axes.axhline, labels),
        (axes.xaxis, axes.axvline, bank_labels),
    ):
        counts = nodes.bincount(minlength=len(names))
        ends = counts.cumsum(0)
        axis.set_ticks((ends - counts / 2).tolist(), names)
        axis.set_tick_params(length=0)
        for end in ends[:-1].tolist():
            line(end, color=FAINT, linewidth=0.4)
    axes.tick_params(axis="x", rotation=90)
