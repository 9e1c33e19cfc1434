"""Labelled samples in memory, and the statistics that models normalise them by.

Images are the first modality: what `ImageSet` holds of another has another shape, and is varied and
shown otherwise, as `cnn2gnn.data.modality` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from cnn2gnn.base.values import brief
from cnn2gnn.data.originals import Originals
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.rows import Rows, part_of
from cnn2gnn.registry import MODALITIES

PART_BYTES = 2**24  # of images that are hashed, or counted, at a time


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Square images with their labels.

    Attributes:
        images: uint8 `(N, C, S, S)` in [0, 255]; C is 1 (grey) or 3 (RGB). Of another modality
            what its decoding makes, of four axes: codes of tokens, or floats. Parts of a set that
            is too large for memory are `Rows` of it: see `data.rows`.
        labels: int64 `(N,)`, indices into `classes`.
        classes: the names of the classes, in the order of their labels.
        name: what reports call the data set.
        modality: a name in `registry.MODALITIES`, which says what `images` look like.
        notes: what was decided or left out when the data were loaded, for the user to read.
        codec: what decoding had to learn from the training samples, as text; empty for images.
        originals: what the samples were, where `images` no longer tell (sound, text).
        logits: float32 `(N, len(classes))`, what a teacher elsewhere said of them, if it did.

    Raises:
        DataError: a shape, type, name or label that is not as above.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    modality: str = "image"
    notes: tuple[str, ...] = ()
    codec: str = ""
    originals: Originals | None = None
    logits: Tensor | None = None

    def __repr__(self) -> str:
        """One line, however many images: the last line of a notebook's cell shows it."""
        shape = "x".join(map(str, self.images.shape[1:]))
        classes = f"{len(self.classes)} classes"
        return f"ImageSet({self.name!r}: {len(self.images):,} x {self.modality} {shape}, {classes})"

    def __post_init__(self) -> None:
        self._check_kinds()
        object.__setattr__(self, "classes", tuple(self.classes))
        MODALITIES[self.modality].check(self.images)
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be int64 ({len(self.images)},), "
                f"not {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            raise DataError(
                f"label {int(self.labels[wrong][0])} of image {int(wrong.nonzero()[0, 0])} in "
                f"{self.name}: allowed are 0 to {len(self.classes) - 1}"
            )

    def _check_kinds(self) -> None:
        """Raise a `DataError` for what is another kind of thing than it must be."""
        for what in ("images", "labels"):
            given = getattr(self, what)
            if not isinstance(given, Tensor | Rows):
                raise DataError(f"{what} must be a tensor, not {type(given).__name__}")
        classes = self.classes
        if not isinstance(classes, tuple | list) or not all(isinstance(c, str) for c in classes):
            raise DataError(f"classes={brief(classes)} must be names, like ('cat', 'dog')")
        if not isinstance(self.name, str):
            raise DataError(f"name={brief(self.name)} must be a text")
        if self.modality not in MODALITIES:
            raise DataError(f"modality={self.modality!r} must be one of {', '.join(MODALITIES)}")

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
        """SHA-256 of modality, pixels, labels and class names, in hexadecimal."""
        return checksum([self.images, self.labels], json.dumps([self.modality, self.classes]))

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """Return the images at `indices` (integers `(M,)`), in that order.

        Raises:
            DataError: a mask of true and false, which would be read as the indices 1 and 0.
        """
        rows = torch.as_tensor(indices)
        if rows.dtype == torch.bool:
            raise DataError(
                "indices must be integers (M,), not a mask: hand over mask.nonzero()[:, 0]"
            )
        rows = rows.long()
        originals = None if self.originals is None else self.originals.subset(rows)
        logits = None if self.logits is None else self.logits[rows]
        return replace(
            self,
            images=part_of(self.images, rows),
            labels=self.labels[rows],
            originals=originals,
            logits=logits,
        )

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the same images and labels on a device; images on disk go there view by view."""
        images = self.images if isinstance(self.images, Rows) else self.images.to(device)
        return replace(self, images=images, labels=self.labels.to(device))

    def augmentation_for(self, augmentation: str) -> str:
        """Return the augmentation that is meant: "auto" goes by the images.

        Colour images are taken for photographs, of which a mirrored one is another. Grey ones may
        be digits or letters, and a mirrored 3 is none: but for Fashion-MNIST they are cropped only.
        A single pixel is no picture but a vector of features, which stays as it is. Other
        modalities have one of their own.
        """
        if augmentation != "auto":
            return augmentation
        if self.modality != "image":
            known = MODALITIES[self.modality].augmentations
            return next((name for name in known if name != "none"), "none")
        if self.size == 1:
            return "none"
        return "crop-flip" if self.channels == 3 or self.name == "fashion-mnist" else "crop"

    def view(self, indices: Tensor, view: int, augmentation: str) -> Tensor:
        """Return the images at `indices` `(B,)` as view `view` shows them, `(B, C, S, S)`.

        A pure function of its arguments: image 17 in view 3 is the same wherever it is computed.

        Args:
            view: 0 is the clean image; 1, 2, … are augmented.
            augmentation: one of those that the modality knows.
        """
        images = self.images[indices.to(self.images.device)].to(self.labels.device)  # (B, C, S, S)
        augment = MODALITIES[self.modality].augment
        return augment(images, indices.to(images.device), view, augmentation)

    @property
    def view_version(self) -> int:
        """Raised whenever a later version of the kit shows other pixels in a view."""
        return MODALITIES[self.modality].view_version

    def preview(self, index: int) -> Image.Image:
        """Return sample `index` as a picture to be looked at."""
        modality = MODALITIES[self.modality]
        if self.originals is not None and modality.picture is not None:
            return modality.picture(self.originals[index])
        return modality.preview(self.images[index])

    def picture(self, index: int) -> Tensor:
        """Return that picture as uint8 `(C, H, W)`, C being 1 or 3."""
        pixels = torch.from_numpy(np.array(self.preview(index)))  # (H, W[, 3])
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)

    def player(self, index: int) -> Markup:
        """Return what stands beside the picture of sample `index`, as HTML; perhaps nothing."""
        play = MODALITIES[self.modality].player
        return Markup() if self.originals is None or play is None else play(self.originals[index])

    def words(self, index: int) -> str:
        """Return sample `index` in a line of plain text; empty where it has none."""
        say = MODALITIES[self.modality].words
        return "" if self.originals is None or say is None else say(self.originals[index])


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
        for part in in_parts(tensor):
            digest.update(part.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def in_parts(tensor: Tensor) -> Sequence[Tensor]:
    """Return a tensor's rows in parts of about `PART_BYTES`: of one on disk, few are in memory."""
    return tensor.split(max(1, PART_BYTES // max(1, tensor[:1].nbytes)))


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `(C,)` of samples `(N, C, …)`, to centre and scale them.

    Those of uint8, in [0, 1] units, follow exactly from the 256-bin histogram, so they depend
    neither on order nor on threads. Integers of another type are codes, which have neither.
    """
    if images.is_floating_point():
        values = images.double().transpose(0, 1).flatten(1)  # (C, N · …)
        return values.mean(1).float(), values.std(1, correction=0).float()
    if images.dtype != torch.uint8:
        return torch.zeros(images.shape[1]), torch.ones(images.shape[1])
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)  # (C, 256)
    for part in in_parts(images):
        counts += _histograms(part)
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values  # (C,)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)  # (C,)
    return mean.float(), variance.sqrt().float()


def _histograms(images: Tensor) -> Tensor:
    """How often each value of uint8 samples `(n, C, …)` occurs in each channel, `(C, 256)`."""
    channels = images.transpose(0, 1).flatten(1)  # (C, n · …)
    return torch.stack([torch.bincount(one, minlength=256) for one in channels]).cpu()
