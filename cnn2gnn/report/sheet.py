"""A sheet of sample images: the first look at a data set."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torchvision.utils import make_grid

from cnn2gnn.classnames import readable
from cnn2gnn.data import ImageSet
from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.style import styled

GAP_PIXELS = 1


@styled
def sample_sheet(images: ImageSet, columns: int = 10) -> Figure:
    """Draw the first images of every class, one class a row; a class with fewer leaves gaps.

    Args:
        images: N images (N, C, H, W), uint8.
        columns: images of a class.

    Returns:
        A figure whose rows carry the names of the classes.
    """
    _, channels, height, width = images.images.shape
    gap = images.images.new_full((columns, channels, height, width), 255)
    rows = []
    for label in range(len(images.classes)):
        members = images.images[images.labels == label][:columns]
        rows.append(torch.cat([members, gap[len(members) :]]))  # (columns, C, H, W)
    grid = make_grid(torch.cat(rows), nrow=columns, padding=GAP_PIXELS, pad_value=255)

    step = height + GAP_PIXELS
    inches = max(0.4, min(1.0, step / 100))
    figure = Figure(figsize=(columns * inches + 2, len(rows) * inches + 0.4), layout="constrained")
    axes = figure.add_subplot()
    names = plain_names(readable(images.classes))
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")  # (H, W, 3)
    axes.set_yticks([(row + 0.5) * step for row in range(len(rows))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
