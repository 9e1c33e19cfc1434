"""Encoded images of any kind into one uint8 tensor, with all cores.

The rules:
- Size: without `image_size` all images must be square and of one size, which is kept. With it, the
  shorter side is resized to `image_size` (bicubic, antialiased) and the centre is cut out.
- Channels: 1 if every image of the data set is grey, else 3 for all.
- Transparency is laid on white; a palette is colour; 16-bit grey is scaled to 8 bits; the
  orientation a camera noted (EXIF) is applied.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from cnn2gnn.data.imageset import DataError
from cnn2gnn.data.source import Item

CHUNK = 256  # images a task: progress stays smooth, hand-over stays cheap
# Starting worker processes takes seconds: fewer images than this are decoded in this one.
WORKERS_FROM = 4096


def decode(items: Sequence[Item], image_size: int | None, title: str) -> Tensor:
    """Return all images as uint8 `(N, C, S, S)`.

    Raises:
        DataError: an image is broken (its file or row is named), or sizes differ and no
            `image_size` was given.
    """
    size = image_size or _native_size(items[0])
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    workers = -1 if len(items) >= WORKERS_FROM else 1
    decoded = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_decode_chunk)(chunk, size, image_size is not None) for chunk in chunks
    )
    with tqdm(total=len(items), desc=f"decoding {title}", unit="image", disable=None) as bar:
        parts = []
        for part in decoded:
            parts.append(torch.from_numpy(part))
            bar.update(len(part))
    channels = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, channels, -1, -1) for part in parts])  # (N, C, S, S)


def _native_size(item: Item) -> int:
    """The side of the first image, which all others must share."""
    width, height = _open(item).size
    if width != height:
        raise DataError(
            f"image_size must be given, for {item.origin} is {width}×{height} pixels, not square"
        )
    return width


def _decode_chunk(items: Sequence[Item], size: int, resize: bool) -> np.ndarray:
    """Decode to uint8 `(n, C, S, S)`; C is 1 if all n images are grey."""
    images = [_decode_one(item, size, resize) for item in items]
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in images])  # (n, S, S[, 3])
    pixels = pixels.reshape(*pixels.shape[:3], -1)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # (n, C, S, S)


def _decode_one(item: Item, size: int, resize: bool) -> Image.Image:
    image = _open(item)
    try:
        image = _eight_bit(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's plugins raise whatever they stumble over
        raise DataError(f"{item.origin} is broken: {error}") from error
    if image.size == (size, size):
        return image
    if not resize:
        raise DataError(
            f"image_size must be given, for sizes differ: {item.origin} is "
            f"{image.width}×{image.height} pixels, others are {size}×{size}"
        )
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def _open(item: Item) -> Image.Image:
    try:
        if isinstance(item.content, np.ndarray):
            return Image.fromarray(item.content)
        # The bytes are read at once: a lazily read file would stay open.
        content = item.content.read_bytes() if isinstance(item.content, Path) else item.content
        return Image.open(io.BytesIO(content))
    except Exception as error:  # as above
        raise DataError(f"{item.origin} cannot be read as an image: {error}") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    if image.mode.startswith("I"):  # 16-bit grey; "I" is how Pillow opens some of it
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(values / 257 + 0.5, 0, 255).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; save it with 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
