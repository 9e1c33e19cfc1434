"""From an encoded image of any kind to 8-bit pixels.

Worker processes import this module by itself, so it stands outside `cnn2gnn.data` and needs neither
torch nor pyarrow: a worker starts in a fraction of a second and in little memory.

The rules:
- Size: without a size to resize to, all images must be square and of one size, which is kept. With
  it, the shorter side is resized to it (bicubic, antialiased) and the centre is cut out.
- Colour: a palette is colour; transparency is laid on white; 16-bit grey is scaled to 8 bits.
- The orientation a camera noted (EXIF) is applied. What else it noted, broken or not, is ignored.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cnn2gnn.base.values import InputError

# Pillow knows more, but tries them all on every image, and some of them start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# How an image is turned upright, by the EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DataError(InputError):
    """A data set that is missing, unreadable or asked for in a way it cannot serve."""


class Item(NamedTuple):
    """One sample, and whence it came.

    An image is a file, its bytes, one of Pillow's, or pixels (H, W[, 3]); other modalities say what
    theirs are.
    """

    content: Path | bytes | str | np.ndarray | Image.Image
    origin: str


def native_size(item: Item) -> int:
    """Return the side of a square image in pixels.

    Raises:
        DataError: it is broken, or not square.
    """
    with _quiet():
        width, height = _open(item).size
    if width != height:
        raise DataError(
            f"image_size must be given, for {item.origin} is {width}×{height} pixels, not square"
        )
    return width


def decode_chunk(items: Sequence[Item], size: int, resize: bool) -> np.ndarray:
    """Decode n images to uint8 `(n, C, S, S)`; C is 1 if all n are grey, else 3.

    Args:
        items: the images.
        size: S in pixels.
        resize: whether images of another size are resized, or an error.

    Raises:
        DataError: an image is broken or of another size; its file or row is named.
    """
    with _quiet():
        images = [_decode(item, size, resize) for item in items]
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in images])  # (n, S, S[, 3])
    pixels = pixels.reshape(*pixels.shape[:3], -1)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # (n, C, S, S)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings about what stands beside the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(item: Item, size: int, resize: bool) -> Image.Image:
    image = _open(item)
    try:
        image.load()
        image = _eight_bit(_upright(image))
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
        if isinstance(item.content, Image.Image):
            return item.content.copy()  # what is done to it is not done to the caller's
        # The bytes are read at once: a lazily read file would stay open.
        content = item.content.read_bytes() if isinstance(item.content, Path) else item.content
        assert isinstance(content, bytes)
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise DataError(f"{item.origin} is broken or no image of a known format") from None
    except Exception as error:  # as above
        raise DataError(f"{item.origin} cannot be read: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    # `ImageOps.exif_transpose` rewrites all of EXIF, and stumbles over any part of it.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF that nobody can read says nothing
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.mode.startswith("I"):  # 16-bit grey; "I" is how Pillow opens some of it
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels have no fixed range; save it with 8 or 16 bits")
        grey = (values / 257 + 0.5).astype(np.uint8)
        # Pillow's own conversion would cut off all that is above 255.
        return Image.fromarray(np.where(values == image.info.get("transparency"), 255, grey))
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        grey_mode = image.mode in ("1", "L", "LA", "La")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("L" if grey_mode else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
