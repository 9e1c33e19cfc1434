"""CNN architectures of the teachers: torchvision's ResNets and the CIFAR-style ones."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.registry import TEACHERS

SMALL_IMAGE = 64  # pixels; up to here ImageNet's stem would throw most of the image away


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut (He et al. 2016, §4.2, option A)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.widening = stride, width - width_in

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.stride > 1 or self.widening:
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.widening))  # zeros for new channels
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for small images: three groups of n blocks, 16, 32 and 64 channels wide.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §4.2.
    """

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        layers, width_in = [], 16
        for width in (16, 32, 64):
            for block in range(blocks):
                stride = 2 if block == 0 and width > 16 else 1
                layers.append(BasicBlock(width_in, width, stride))
                width_in = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(width_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to logits `(B, classes)`."""
        x = self.layers(F.relu(self.norm(self.conv(x))))  # (B, 64, H/4, W/4)
        return self.fc(x.mean((2, 3)))  # (B, classes)


def _cifar_resnet(
    channels: int, size: int, classes: int, weights: str | None = None, *, depth: int
) -> nn.Module:
    """CIFAR-style ResNet; arguments as of `build_network`."""
    if weights is not None:
        raise ValueError(
            f"teacher_weights={weights!r} is not to be had for resnet{depth}; "
            "choose resnet18/34/50/101/152 or leave teacher_weights empty"
        )
    return CifarResNet((depth - 2) // 6, channels, classes)


def _torchvision_resnet(
    channels: int, size: int, classes: int, weights: str | None = None, *, depth: int
) -> nn.Module:
    """torchvision's ResNet, with a 3x3 stem without pooling for images of at most 64 pixels.

    Arguments as of `build_network`.
    """
    import torchvision  # seconds to import: small networks shall not wait

    network = torchvision.models.get_model(f"resnet{depth}", weights="DEFAULT" if weights else None)
    small = size <= SMALL_IMAGE
    if small or channels != 3:
        old = network.conv1.weight.detach()  # (64, 3, 7, 7)
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        network.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding, bias=False)
        if weights:
            with torch.no_grad():
                network.conv1.weight.copy_(_adapted(old, channels, kernel))
    if small:
        network.maxpool = nn.Identity()
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network


resnet20 = partial(_cifar_resnet, depth=20)
resnet56 = partial(_cifar_resnet, depth=56)
resnet110 = partial(_cifar_resnet, depth=110)
resnet18 = partial(_torchvision_resnet, depth=18)
resnet34 = partial(_torchvision_resnet, depth=34)
resnet50 = partial(_torchvision_resnet, depth=50)
resnet101 = partial(_torchvision_resnet, depth=101)
resnet152 = partial(_torchvision_resnet, depth=152)


def build_network(
    name: str, channels: int, size: int, classes: int, weights: str | None = None
) -> nn.Module:
    """Return an untrained or ImageNet-initialised CNN.

    Args:
        name: registered in `TEACHERS`.
        channels: channels of the images; `size`: their side in pixels; `classes`: logits.
        weights: "imagenet" starts from torchvision's weights (its head is replaced).

    Raises:
        ValueError: the network has no ImageNet weights.
    """
    return TEACHERS[name](channels, size, classes, weights)


def _adapted(weight: Tensor, channels: int, kernel: int) -> Tensor:
    """Shrink a pretrained `(64, 3, 7, 7)` stem to another kernel and channel count."""
    weight = F.interpolate(weight, (kernel, kernel), mode="area")  # (64, 3, kernel, kernel)
    if channels == 3:
        return weight
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1) * 3 / channels
