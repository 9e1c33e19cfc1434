"""Stems: from an image to a node feature z_i ∈ R^d."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

# (output channels, stride) of the 3x3 convolutions, then d
_CONV: dict[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "conv-tiny": (((16, 1), (32, 2), (64, 2), (96, 2)), 64),
    "conv-small": (((24, 1), (48, 2), (96, 2), (128, 1), (192, 2)), 128),
    "conv-base": (((48, 1), (96, 2), (160, 2), (256, 1), (384, 2)), 192),
}


def build_stem(name: str, channels: int, size: int) -> tuple[nn.Module, int]:
    """Return a stem and its feature dimension d.

    Args:
        name: `linear` (pixels → d, the purest reading of the paper), `conv-tiny`, `conv-small`,
            `conv-base` (about 0.1, 0.45 and 1.8 M parameters with the head), or `features` (the
            input is a feature vector computed elsewhere, as `(N, d, 1, 1)`).
        channels, size: of the images; the linear stem depends on both.

    Returns:
        A module from normalised images `(B, C, H, W)` to features `(B, d)`, and d.
    """
    if name == "features":
        return nn.Flatten(), channels * size * size
    if name == "linear":
        d = 128
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * size * size, d), nn.BatchNorm1d(d)
        ), d
    layout, d = _CONV[name]
    widths = [channels, *(width for width, _ in layout)]
    blocks = [
        _block(before, after, stride)
        for (before, after), (_, stride) in zip(pairwise(widths), layout, strict=True)
    ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], d), nn.BatchNorm1d(d))
    return nn.Sequential(*blocks, *head), d


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )
