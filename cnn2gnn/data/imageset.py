"""Labelled images in memory, and the statistics that models normalise them by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.data.pixels import DataError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images with their labels.

    Attributes:
        images: uint8 `(N, C, S, S)` in [0, 255]; C is 1 (grey) or 3 (RGB).
        labels: int64 `(N,)`, indices into `classes`.
        classes: the names of the classes, in the order of their labels.
        name: what reports call the data set.

    Raises:
        DataError: a shape, type or label that is not as above.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[2] != shape[3]:
            raise DataError(f"images must be uint8 (N, C, S, S), not {self.images.dtype} {shape}")
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise DataError(
                f"labels must be int64 ({shape[0]},), "
                f"not {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            raise DataError(
                f"label {int(self.labels[wrong][0])} of image {int(wrong.nonzero()[0, 0])} in "
                f"{self.name}: allowed are 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """C: 1 for grey, 3 for RGB."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """S: the side of the images in pixels."""
        return self.images.shape[2]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels and class names, in hexadecimal."""
        return checksum([self.images, self.labels], json.dumps(self.classes))

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """Return the images at `indices` (int64 `(M,)`), in that order."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(self.images[rows], self.labels[rows], self.classes, self.name)


class Splits(NamedTuple):
    """The three parts of a data set; they share no image."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def checksum(tensors: Sequence[Tensor], text: str) -> str:
    """SHA-256 of `text` and of the types, shapes and bytes of `tensors`, in hexadecimal."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `(C,)` of uint8 images `(N, C, H, W)`, in [0, 1] units.

    Both follow exactly from the 256-bin histogram, so they depend neither on order nor on threads.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = (
        torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
        )
        .cpu()
        .double()
    )  # (C, 256)
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values  # (C,)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)  # (C,)
    return mean.float(), variance.sqrt().float()
