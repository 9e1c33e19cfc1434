"""Images and plots as PNG for the browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.evaluation.nodes import Node
from cnn2gnn.explore.export import png

Images = Callable[[Node], Tensor]  # of a node, uint8 `(C, H, W)`
_SIDE = 64  # pixels: a preview, also of large images


def thumbnail(image: Tensor) -> str:
    """A uint8 image `(C, H, W)` as a data URI of at most 64 pixels a side."""
    if max(image.shape[1:]) > _SIDE:
        share = _SIDE / max(image.shape[1:])
        sides = [max(1, round(share * side)) for side in image.shape[1:]]
        smaller = F.interpolate(image[None].float(), sides, mode="area")
        image = smaller[0].round().byte()
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def figure_png(figure: Figure, dpi: int = 90) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
