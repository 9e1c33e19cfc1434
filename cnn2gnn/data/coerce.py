"""Images as users hold them, into what a model takes: converted by rule or refused, never misread.

The rules:
- Arrays and tensors are `(N, C, H, W)`, `(N, H, W, C)` or one image of three axes. Where both
  places could hold the channels, the model's own shape decides; where it cannot, the array is
  refused.
- Pixels are uint8 in [0, 255], or floats in [0, 1], which are multiplied by 255 and rounded.
- Paths and Pillow's images are decoded as in training (`cnn2gnn.data.pixels`). Images of another
  size are resized and cut as there.
- Grey becomes RGB by three equal channels, RGB becomes grey by Pillow's weights (ITU-R 601).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnn2gnn.data.decode import decode
from cnn2gnn.data.pixels import DataError, Item

Single: TypeAlias = "str | Path | Image.Image | np.ndarray | Tensor"
Images: TypeAlias = "Single | Sequence[Single]"

_COLOURS = (1, 3)  # grey, RGB


def as_images(images: Images, *, channels: int, size: int) -> Tensor:
    """Return `images` as uint8 `(N, C, S, S)`, for a model of C = `channels` and S = `size`.

    Args:
        images: an array or tensor, a path, an image of Pillow's, or a list of them. An array of
            three axes, and an array in a list, is one image; in a list it may be grey `(H, W)`.

    Raises:
        DataError: there is no image, or one that the rules above do not cover.
    """
    if isinstance(images, (np.ndarray, Tensor)):
        return _from_array(images, "images", channels, size)
    if isinstance(images, (str, Path, Image.Image)):
        images = [images]
    if not isinstance(images, (list, tuple)):
        raise DataError(
            f"images must be an array, a tensor, a path, an image of Pillow's or a list of them, "
            f"not {type(images).__name__}"
        )
    if not images:
        raise DataError("images is empty: give at least one image")
    if channels not in _COLOURS:
        raise DataError(f"images must be one array (N, {channels}, {size}, {size}), not a list")
    items = [_item(image, f"images[{i}]", channels, size) for i, image in enumerate(images)]
    return _coloured(decode(items, size, "images"), channels)


def _from_array(array: Any, name: str, channels: int, size: int) -> Tensor:
    pixels = _eight_bit(array, name)
    if channels == 1 and pixels.ndim == 3 and len(pixels) == 3:
        raise DataError(
            f"{name} of shape {pixels.shape} may be one RGB image or three grey ones: "
            f"write {name}[None] or {name}[:, None]"
        )
    pixels = _channels_first(pixels, name, channels, size)  # (N, c, H, W)
    if pixels.shape[2:] == (size, size):
        # a copy: torch refuses negative strides, and what is read-only
        return _coloured(torch.from_numpy(pixels.copy()), channels)
    if channels not in _COLOURS:
        raise DataError(f"{name} of shape {pixels.shape} must be (N, {channels}, {size}, {size})")
    items = [Item(_for_pillow(image), f"{name}[{i}]") for i, image in enumerate(pixels)]
    return _coloured(decode(items, size, name), channels)


def _item(image: Any, name: str, channels: int, size: int) -> Item:
    """One image of a list."""
    if isinstance(image, (str, Path)):
        return Item(Path(image).expanduser(), f"{name}, {image},")
    if isinstance(image, Image.Image):
        return Item(image, name)
    if not isinstance(image, (np.ndarray, Tensor)):
        raise DataError(
            f"{name} must be an array, a tensor, a path or an image of Pillow's, "
            f"not {type(image).__name__}"
        )
    pixels = _eight_bit(image, name)
    if pixels.ndim not in (2, 3):
        raise DataError(f"{name} of shape {pixels.shape} must be one image: (C, H, W) or (H, W, C)")
    if pixels.ndim == 2:
        return Item(np.ascontiguousarray(pixels), name)
    return Item(_for_pillow(_channels_first(pixels, name, channels, size)[0]), name)


def _eight_bit(array: Any, name: str) -> np.ndarray:
    """The values as uint8, in the same shape."""
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        # numpy knows no bfloat16
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape = array.shape
    if 0 in shape:
        raise DataError(f"{name} of shape {shape} is empty: give at least one image")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(
            f"{name} of shape {shape} is {array.dtype}: allowed are uint8 in [0, 255] and floats "
            "in [0, 1]"
        )
    low, high = array.min(), array.max()  # NaN if one is
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name} of shape {shape} holds floats from {low:g} to {high:g}: floats must lie in "
            "[0, 1] (divide what lies in [0, 255] by 255; leave out a model's normalisation)"
        )
    return np.rint(array * 255).astype(np.uint8)


def _channels_first(pixels: np.ndarray, name: str, channels: int, size: int) -> np.ndarray:
    """Images `(N, c, H, W)`, c allowed; one image of three axes is N = 1."""
    allowed = _COLOURS if channels in _COLOURS else (channels,)
    batch = pixels[None] if pixels.ndim == 3 else pixels
    if batch.ndim == 4:
        _, second, third, last = batch.shape
        if second in allowed and last in allowed:
            first_fits = (second, third, last) == (channels, size, size)
            last_fits = (second, third, last) == (size, size, channels)
            if first_fits == last_fits and (second, third, last) != (1, 1, 1):
                raise DataError(
                    f"{name} of shape {pixels.shape} could hold its channels in two places: "
                    f"give them as (N, {channels}, {size}, {size})"
                )
            return batch if first_fits else batch.transpose(0, 3, 1, 2)
        if second in allowed:
            return batch
        if last in allowed:
            return batch.transpose(0, 3, 1, 2)
    counts = " or ".join(map(str, allowed))
    raise DataError(
        f"{name} of shape {pixels.shape} must be (N, C, H, W), (N, H, W, C) or one image of three "
        f"axes, C being {counts}; grey images without an axis for it become {name}[:, None]"
    )


def _for_pillow(pixels: np.ndarray) -> np.ndarray:
    """`(c, H, W)` to `(H, W, 3)`, or to `(H, W)` if it is grey."""
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _coloured(images: Tensor, channels: int) -> Tensor:
    """uint8 `(N, c, S, S)` with as many channels as the model takes."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    count, _, height, width = images.shape
    column = images.permute(0, 2, 3, 1).reshape(count * height, width, 3)  # one tall picture
    grey = np.array(Image.fromarray(column.numpy()).convert("L"))
    return torch.from_numpy(grey).view(count, 1, height, width)
