"""What several figures of the explorer draw alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.evaluation.nodes import Node
from cnn2gnn.palette import FAINT, SEQUENTIAL

Images = Callable[[Node], Tensor]


def draw_mixing(
    figure: Figure, axes: Axes, mixing: Tensor, classes: Sequence[str], title: str
) -> None:
    """Draw class-to-class edge mass `(C, C)` with its scale; names where they are legible."""
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


def show_image(axes: Axes, image: Tensor, frame: str = FAINT) -> None:
    """Fill axes with an image `(C, H, W)`, in a frame of this colour."""
    axes.imshow(pixels_of(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=frame, linewidth=2.0)


def pixels_of(image: Tensor) -> np.ndarray:
    """`(C, H, W)` to what imshow takes: `(H, W)` for one channel, `(H, W, 3)` for three."""
    return image[0].numpy() if len(image) == 1 else image[:3].permute(1, 2, 0).numpy()


def line_widths(weights: Tensor | np.ndarray) -> np.ndarray:
    """Line widths in points, up to 6 for a weight of 1."""
    return 0.4 + 5.6 * np.asarray(weights)
