"""Stems: from an image to a node feature z_i ∈ R^d.

A stem is any module from normalised images `(B, C, S, S)` to features `(B, width)` that tells its
`width`, d.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn


class FeatureStem(nn.Flatten):
    """No stem at all: the input is a feature vector computed elsewhere, as `(B, d, 1, 1)`."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.width = channels * size * size


class LinearStem(nn.Sequential):
    """Pixels → 128 features, the purest reading of the paper."""

    def __init__(self, channels: int, size: int) -> None:
        self.width = 128
        super().__init__(
            nn.Flatten(),
            nn.Linear(channels * size * size, self.width),
            nn.BatchNorm1d(self.width),
        )


class ConvStem(nn.Module):
    """A few 3x3 convolutions with batch norm and ReLU, pooled, and a Linear to d features.

    Args:
        channels: of the images; `size` is taken by every stem and does not matter here.
        blocks: (output channels, stride) of each convolution.
        width: d.
    """

    def __init__(
        self, channels: int, size: int, *, blocks: Sequence[tuple[int, int]], width: int
    ) -> None:
        super().__init__()
        del size
        self.width = width
        channel_counts = [channels, *(out for out, _ in blocks)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for (before, after), (_, stride) in zip(
                    pairwise(channel_counts), blocks, strict=True
                )
            )
        )
        self.project = nn.Sequential(nn.Linear(channel_counts[-1], width), nn.BatchNorm1d(width))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images `(B, C, S, S)` to features `(B, d)`."""
        return self.project(self.blocks(images).mean((2, 3)))


# about 0.1, 0.45 and 1.8 M parameters with the head
conv_tiny = partial(ConvStem, blocks=((16, 1), (32, 2), (64, 2), (96, 2)), width=64)
conv_small = partial(ConvStem, blocks=((24, 1), (48, 2), (96, 2), (128, 1), (192, 2)), width=128)
conv_base = partial(ConvStem, blocks=((48, 1), (96, 2), (160, 2), (256, 1), (384, 2)), width=192)
