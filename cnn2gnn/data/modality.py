"""What samples are: how they are decoded, checked, varied and shown.

Another modality is one `Modality` in a file of its own and a line in `registry.MODALITIES`; the
source of a data set names it. Its samples are a tensor `(N, C, …)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from cnn2gnn.data.augmentation import VERSION, augment
from cnn2gnn.data.decode import decode
from cnn2gnn.data.pixels import DataError, Item


@dataclass(frozen=True)
class Modality:
    """A kind of samples.

    Attributes:
        decode: N encoded items, the size asked for (or None) and a title to samples `(N, C, …)`.
        check: raises a `DataError` for samples of another type or shape.
        augment: samples `(B, C, …)`, their indices `(B,)`, a view and an augmentation to that view
            of them; a pure function of index and view, and view 0 is the clean sample.
        preview: one sample `(C, …)` to a picture of it.
        decode_version: raised whenever `decode` gives other results: what is kept is made anew.
        view_version: raised whenever `augment` does.
    """

    decode: Callable[[Sequence[Item], int | None, str], Tensor]
    check: Callable[[Tensor], None]
    augment: Callable[[Tensor, Tensor, int, str], Tensor]
    preview: Callable[[Tensor], Image.Image]
    decode_version: int = 1
    view_version: int = 1


def _check(images: Tensor) -> None:
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[2] != shape[3]:
        raise DataError(f"images must be uint8 (N, C, S, S), not {images.dtype} {shape}")


def _preview(image: Tensor) -> Image.Image:
    pixels = image.cpu().permute(1, 2, 0).numpy()  # (S, S, C)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


# Decoding 2: 16-bit grey keeps its range beside transparency, EXIF tells the orientation alone.
IMAGE = Modality(decode, _check, augment, _preview, decode_version=2, view_version=VERSION)
