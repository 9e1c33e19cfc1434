"""Stems: from an image to a node feature z_i ∈ R^d.

A stem is any module from normalised images `(B, C, S, S)` to features `(B, d)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn


@torch.no_grad()
def feature_width(stem: nn.Module, channels: int, size: int) -> int:
    """Return d of a stem for images `(B, channels, size, size)`.

    A stem for samples of another shape cannot be tried on an image: it tells its `feature_width`.

    Raises:
        ValueError: it does not give one vector an image.
    """
    told = getattr(stem, "feature_width", None)
    if isinstance(told, int):
        return told
    was_training = stem.training
    stem.eval()  # a single image has no batch statistics
    try:
        features = stem(torch.zeros(1, channels, size, size))
    except Exception as error:  # whatever a stem of the user's own stumbles over
        raise ValueError(
            f"stem {type(stem).__name__} fails on one image (1, {channels}, {size}, {size}): "
            f"{error}"
        ) from error
    stem.train(was_training)
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(
            f"stem {type(stem).__name__} gives {shape or type(features).__name__} for one image "
            f"(1, {channels}, {size}, {size}); features (1, d) are needed"
        )
    return shape[1]


class FeatureStem(nn.Flatten):
    """No stem at all: the input is a feature vector computed elsewhere, as `(B, d, 1, 1)`."""

    def __init__(self, channels: int, size: int) -> None:
        del channels, size  # taken by every stem
        super().__init__()


class LinearStem(nn.Sequential):
    """Pixels → 128 features, the purest reading of the paper."""

    def __init__(self, channels: int, size: int) -> None:
        d = 128
        super().__init__(nn.Flatten(), nn.Linear(channels * size * size, d), nn.BatchNorm1d(d))


class PooledStem(nn.Module):
    """Convolutional blocks; what each of them found, pooled over the image.

    The last block alone would do for a classifier. Neighbours are better found, and classes better
    told apart, by what all blocks see: textures and colours as well as objects.

    Args:
        blocks: one after the other, from images `(B, C, S, S)` on.
        widths: their output channels, which add up to d.
    """

    def __init__(self, blocks: Iterable[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm1d(sum(widths))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images `(B, C, S, S)` to features `(B, d)`."""
        pooled = []
        for block in self.blocks:
            images = block(images)
            # of the mean over (2, 3) the gradient is laid out otherwise: a tenth of a step
            pooled.append(images.permute(0, 2, 3, 1).mean((1, 2)))  # (B, channels of the block)
        return self.norm(torch.cat(pooled, 1))


class ConvStem(PooledStem):
    """A few 3x3 convolutions with batch norm and ReLU.

    Args:
        channels: of the images; their `size` does not matter here.
        blocks: (output channels, stride) of each convolution.
    """

    def __init__(self, channels: int, size: int, *, blocks: Sequence[tuple[int, int]]) -> None:
        del size
        widths = [out for out, _ in blocks]
        convolutions = (
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for (before, after), (_, stride) in zip(
                pairwise([channels, *widths]), blocks, strict=True
            )
        )
        super().__init__(convolutions, widths)


# about 0.28, 0.87 and 2.3 M parameters with the graph network, for 100 classes
conv_tiny = partial(ConvStem, blocks=((16, 1), (32, 2), (64, 2), (96, 2)))
conv_small = partial(ConvStem, blocks=((24, 1), (48, 2), (96, 2), (128, 1), (192, 2)))
conv_base = partial(ConvStem, blocks=((48, 1), (96, 2), (160, 2), (256, 1), (384, 2)))
