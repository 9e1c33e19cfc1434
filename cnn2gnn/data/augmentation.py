"""Batched augmentation as a pure function of (index, view).

A view is a seed: image 17 in view 3 is the same pixels on any device, in any batch, in any process.
So a teacher's logits may be computed once per view and still answer to exactly what the student
sees.

Crops and flips follow He et al. 2016 (§4.2), cutout DeVries & Taylor 2017. Lengths are those
papers' at 32 pixels and scale with the image: padding S/8 (4 at 32), hole S/4 (8 at 32).
Padding and holes are black, as in torchvision's `RandomCrop` before normalisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnn2gnn.data.hashing import uniform

# To be raised whenever a view of an image becomes another one.
VERSION = 1
AUGMENTATIONS = ("none", "crop", "crop-flip", "crop-flip-cutout")


def augment(images: Tensor, indices: Tensor, view: int, augmentation: str) -> Tensor:
    """Return view `view` of a batch of images.

    Args:
        images: uint8 `(B, C, S, S)`.
        indices: int64 `(B,)`, each image's index in its data set (at least 0).
        view: 0 is the clean image; 1, 2, … are augmented.
        augmentation: "none", "crop", "crop-flip" or "crop-flip-cutout".

    Returns:
        uint8 `(B, C, S, S)`; never written into `images`.

    Raises:
        ValueError: an unknown augmentation, a negative view, or indices of another length.
    """
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"augmentation={augmentation!r} must be one of {', '.join(AUGMENTATIONS)}")
    if view < 0:
        raise ValueError(f"view={view} must be at least 0")
    if indices.shape != images.shape[:1]:
        raise ValueError(f"indices {tuple(indices.shape)} must be ({images.shape[0]},)")
    if view == 0 or augmentation == "none":
        return images
    indices = indices.to(images.device)
    images = _crop(images, indices, view, flip="flip" in augmentation)
    return _cutout(images, indices, view) if "cutout" in augmentation else images


def _crop(images: Tensor, indices: Tensor, view: int, flip: bool) -> Tensor:
    """Shift by up to S/8 pixels, black where nothing is, and mirror every second image."""
    batch, channels, size, _ = images.shape
    pad = max(1, size // 8)
    padded = F.pad(images, (pad, pad, pad, pad))  # (B, C, S + 2p, S + 2p)
    pixels = torch.arange(size, device=images.device)
    rows = pixels + uniform(indices, 2 * pad + 1, view, 0)[:, None]  # (B, S)
    columns = pixels + uniform(indices, 2 * pad + 1, view, 1)[:, None]  # (B, S)
    if flip:
        mirrored = uniform(indices, 2, view, 2)[:, None] == 1
        columns = torch.where(mirrored, columns.flip(1), columns)
    # One flat gather of pixels, shared by the channels.
    flat = rows[:, :, None] * (size + 2 * pad) + columns[:, None, :]  # (B, S, S)
    flat = flat.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.view(batch, channels, -1).gather(2, flat).view_as(images)


def _cutout(images: Tensor, indices: Tensor, view: int) -> Tensor:
    """Blacken a square of side S/4 around a random pixel; at the border it is cut off."""
    size = images.shape[-1]
    side = max(1, size // 4)
    pixels = torch.arange(size, device=images.device)
    top, left = (uniform(indices, size, view, axis)[:, None] - side // 2 for axis in (3, 4))
    rows, columns = ((pixels >= at) & (pixels < at + side) for at in (top, left))  # (B, S)
    hole = rows[:, :, None] & columns[:, None, :]  # (B, S, S)
    return images * ~hole[:, None]
