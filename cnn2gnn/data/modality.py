"""What samples are: how they are decoded, checked, varied and shown.

Another modality is one `Modality` in a file of its own and a line in `registry.MODALITIES`; the
source of a data set names it. Its samples are a tensor `(N, C, …)`, whose type says what its
numbers are: uint8 are intensities from 0 to 255, floats are quantities, other integers are codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.data.augmentation import AUGMENTATIONS, VERSION, augment
from cnn2gnn.data.coerce import as_images
from cnn2gnn.data.decode import decode
from cnn2gnn.data.pixels import DataError, Item

# what takes pictures, of whatever
PICTURE_STEMS = (
    *("linear", "conv-tiny", "conv-small", "conv-base"),
    *("shufflenet-v2", "mobilenet-v2", "features"),
)
PICTURE_TEACHERS = (
    *("resnet20", "resnet56", "resnet110"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mlp"),
)
_SIDE = 8  # pixels: shifted and compressed copies are near each other at this size


def pooled(samples: Tensor) -> Tensor:
    """Samples `(N, C, …)` as vectors `(N, D)`; images averaged down to 8x8, in [0, 1]."""
    if samples.dtype == torch.uint8 and samples.ndim == 4:
        return F.adaptive_avg_pool2d(samples.float() / 255, _SIDE).flatten(1)
    return samples.float().flatten(1)


@dataclass(frozen=True)
class Modality:
    """A kind of samples.

    Attributes:
        decode: N encoded items, the size asked for (or None) and a title to samples `(N, C, …)`;
            takes `codec=` too where there is something to `learn`.
        check: raises a `DataError` for samples of another type or shape.
        augment: samples `(B, C, …)`, their indices `(B,)`, a view and an augmentation to that view
            of them; a pure function of index and view, and view 0 is the clean sample.
        preview: one sample `(C, …)` to a picture of it.
        decode_version: raised whenever `decode` gives other results: what is kept is made anew.
        view_version: raised whenever `augment` does.
        learn: the training items to a `codec`, text that decoding needs (a vocabulary, say).
        originals: items and codec to what is kept of each to be shown, as bytes.
        picture: an original to a picture, where that shows more than `preview`.
        player: an original to HTML, to be put beside the picture; what it holds is escaped.
        words: an original to a line of plain text, for where there is no room for more.
        coerce: raw samples of a user's, `(C, size)` of the model and the codec to samples.
        vectors: samples to vectors in which near copies are near.
        libraries: those that decode: another version of one may decode otherwise.
        columns: names under which tables hold such samples.
        holds: what stands in such a column: "bytes" of files, "text" or "numbers".
        augmentations: what `augment` knows; the first but "none" is what "auto" means (images have
            a rule of their own).
        stems, teachers: the names of those that suit it; none: whatever is asked for.
    """

    decode: Callable[..., Tensor]
    check: Callable[[Tensor], None]
    augment: Callable[[Tensor, Tensor, int, str], Tensor]
    preview: Callable[[Tensor], Image.Image]
    decode_version: int = 1
    view_version: int = 1
    learn: Callable[[Sequence[Item]], str] | None = None
    originals: Callable[[Sequence[Item], str], list[bytes]] | None = None
    picture: Callable[[bytes], Image.Image] | None = None
    player: Callable[[bytes], Markup] | None = None
    words: Callable[[bytes], str] | None = None
    coerce: Callable[[Any, int, int, str], Tensor] | None = None
    vectors: Callable[[Tensor], Tensor] = pooled
    libraries: tuple[str, ...] = ("pillow",)
    columns: tuple[str, ...] = ()
    holds: str = "bytes"
    augmentations: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()


def _check(images: Tensor) -> None:
    shape = tuple(images.shape)
    fits = len(shape) == 4 and shape[2] == shape[3] and 0 not in shape[1:]
    if images.dtype != torch.uint8 or not fits:
        raise DataError(f"images must be uint8 (N, C, S, S), not {images.dtype} {shape}")


def _preview(image: Tensor) -> Image.Image:
    pixels = image.cpu().permute(1, 2, 0).numpy()  # (S, S, C)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3])


def _coerce(images: Any, channels: int, size: int, codec: str) -> Tensor:
    return as_images(images, channels=channels, size=size)


# Decoding 2: 16-bit grey keeps its range beside transparency, EXIF tells the orientation alone.
IMAGE = Modality(
    decode,
    _check,
    augment,
    _preview,
    decode_version=2,
    view_version=VERSION,
    coerce=_coerce,
    columns=("image", "img"),
    augmentations=AUGMENTATIONS,
    stems=PICTURE_STEMS,
    teachers=PICTURE_TEACHERS,
)
