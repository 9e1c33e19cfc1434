"""Small CNNs of torchvision as stems: what other distillation papers take as students."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cnn2gnn.models.networks import SMALL_IMAGE
from cnn2gnn.models.stems import PooledStem

# where MobileNetV2's layers change their width: its seven groups, between the first and the last
_MOBILENET_GROUPS = (0, 2, 4, 7, 11, 14, 17, 18, 19)


def shufflenet_v2(channels: int, size: int) -> PooledStem:
    """ShuffleNetV2 x1.0 (Ma et al., ECCV 2018) without its classifier."""
    import torchvision  # seconds to import: small stems shall not wait

    network = torchvision.models.shufflenet_v2_x1_0()
    small = size <= SMALL_IMAGE
    network.conv1[0] = _first(network.conv1[0], channels, small)
    pool = nn.Identity() if small else network.maxpool
    blocks = [
        network.conv1,
        nn.Sequential(pool, network.stage2),
        network.stage3,
        network.stage4,
        network.conv5,
    ]
    return PooledStem(blocks, _widths(blocks, channels, size))


def mobilenet_v2(channels: int, size: int) -> PooledStem:
    """MobileNetV2 of half its width (Sandler et al., CVPR 2018) without its classifier."""
    import torchvision

    layers = torchvision.models.mobilenet_v2(width_mult=0.5).features
    layers[0][0] = _first(layers[0][0], channels, size <= SMALL_IMAGE)
    blocks = [
        layers[start:end]
        for start, end in zip(_MOBILENET_GROUPS, _MOBILENET_GROUPS[1:], strict=False)
    ]
    return PooledStem(blocks, _widths(blocks, channels, size))


def _first(convolution: nn.Conv2d, channels: int, small: bool) -> nn.Conv2d:
    """The first convolution, for so many channels; of a small image it leaves out no pixel."""
    stride = 1 if small else convolution.stride
    return nn.Conv2d(channels, convolution.out_channels, 3, stride, 1, bias=False)  # type: ignore[arg-type]


@torch.no_grad()
def _widths(blocks: Sequence[nn.Module], channels: int, size: int) -> list[int]:
    """Output channels of each block, seen on one image."""
    images, widths = torch.zeros(1, channels, size, size), []
    for block in blocks:
        images = block.eval()(images)  # a single image has no batch statistics
        block.train()
        widths.append(images.shape[1])
    return widths
