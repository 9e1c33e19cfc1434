"""A sheet of sample images: the first look at a data set."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid

from cnn2gnn.base.values import ConfigError
from cnn2gnn.data import ImageSet
from cnn2gnn.drawing.classnames import readable
from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.style import styled

GAP_PIXELS = 1
MOST = 100  # classes: a picture of a thousand rows is too large for what draws it


def check_out(path: str) -> None:
    """Check that a sheet can be written to a file of this name.

    Raises:
        ConfigError: its suffix is none of a picture, or its folder is not there.
    """
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in known:
        raise ConfigError(f"out={path!r} must end in one of .{', .'.join(known)}")
    if not Path(path).parent.is_dir():
        raise ConfigError(f"out={path!r}: there is no folder {str(Path(path).parent)!r}")


@styled
def sample_sheet(images: ImageSet, columns: int = 10) -> Figure:
    """Draw the first images of each class, one class a row; a class with fewer leaves gaps.

    Of more than `MOST` classes the first are drawn, and the others counted below.

    Args:
        images: at least one; each is drawn as its modality shows it.
        columns: images of a class.

    Returns:
        A figure whose rows carry the names of the classes.
    """
    chosen = [
        (images.labels == label).nonzero().flatten()[:columns].tolist()
        for label in range(min(len(images.classes), MOST))
    ]
    shown = [[pil_to_tensor(images.preview(i).convert("RGB")) for i in row] for row in chosen]
    gap = torch.full_like(pil_to_tensor(images.preview(0).convert("RGB")), 255)  # (3, H, W)
    height = gap.shape[1]
    rows = [row + [gap] * (columns - len(row)) for row in shown]
    grid = make_grid(
        [image for row in rows for image in row], nrow=columns, padding=GAP_PIXELS, pad_value=255
    )

    step = height + GAP_PIXELS
    inches = max(0.4, min(1.0, step / 100))
    figure = Figure(figsize=(columns * inches + 2, len(rows) * inches + 0.4), layout="constrained")
    axes = figure.add_subplot()
    names = plain_names(readable(images.classes))[: len(rows)]
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")  # (H, W, 3)
    axes.set_yticks([(row + 0.5) * step for row in range(len(rows))], names)
    axes.set_xticks([])
    if left_out := len(images.classes) - len(rows):
        axes.set_xlabel(f"and {left_out:,} more classes")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
