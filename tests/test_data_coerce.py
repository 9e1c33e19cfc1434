"""Images as users hold them become what a model takes, or are refused in one line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnn2gnn.data import DataError
from cnn2gnn.data.coerce import as_images
from cnn2gnn.data.decode import decode
from cnn2gnn.data.pixels import Item

RGB = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8)).astype(np.uint8)
GREY = RGB[:, :1]


def coerced(images: Any, channels: int = 3, size: int = 8) -> np.ndarray:
    out = as_images(images, channels=channels, size=size)
    assert out.dtype == torch.uint8 and out.shape[1:] == (channels, size, size)
    return out.numpy()


FORMS = {
    "channels first": RGB,
    "channels last": RGB.transpose(0, 2, 3, 1),
    "tensor": torch.from_numpy(RGB),
    "float32": RGB.astype(np.float32) / 255,
    "float64": RGB / 255,
    "float16": (RGB / 255).astype(np.float16),
    "float tensor, channels last": torch.from_numpy(RGB).permute(0, 2, 3, 1) / 255,
    "tensor with gradient": (torch.from_numpy(RGB) / 255).requires_grad_(),
    "Pillow's": [Image.fromarray(x) for x in RGB.transpose(0, 2, 3, 1)],
    "list of arrays": list(RGB),
    "list of tensors, channels last": list(torch.from_numpy(RGB).permute(0, 2, 3, 1)),
    "mixed": [RGB[0], Image.fromarray(RGB[1].transpose(1, 2, 0)), *(torch.from_numpy(RGB[2:]))],
    "negative strides": RGB[::-1].copy()[::-1],
    "big-endian floats": (RGB / 255).astype(">f4"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_pixels(form: str) -> None:
    np.testing.assert_array_equal(coerced(FORMS[form]), RGB)


def test_bfloat16_is_rounded_to_the_nearest_level_it_knows() -> None:
    near = coerced((torch.from_numpy(RGB) / 255).bfloat16()).astype(int)
    assert np.abs(near - RGB).max() <= 1


@pytest.mark.parametrize("one", [RGB[0], RGB[0].transpose(1, 2, 0), torch.from_numpy(RGB[0])])
def test_three_axes_are_one_image(one: Any) -> None:
    np.testing.assert_array_equal(coerced(one), RGB[:1])


def test_input_is_not_written_into_and_may_be_read_only() -> None:
    frozen = RGB.copy()
    frozen.flags.writeable = False
    out = as_images(frozen, channels=3, size=8)
    out.zero_()
    np.testing.assert_array_equal(frozen, RGB)
    picture = Image.new("RGBA", (9, 4), (0, 0, 0, 0))
    coerced(picture)
    assert picture.mode == "RGBA" and picture.size == (9, 4)


def test_paths_are_decoded_as_in_training(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a camera
    pictures = {
        "rgb.png": Image.fromarray(RGB[0].transpose(1, 2, 0)),
        "wide.png": Image.fromarray(np.tile(RGB[1].transpose(1, 2, 0), (1, 2, 1))),
        "palette.gif": Image.fromarray(RGB[2].transpose(1, 2, 0)).quantize(8),
        "clear.png": Image.new("RGBA", (8, 8), (10, 20, 30, 128)),
        "turned.jpg": Image.fromarray(np.tile(RGB[3].transpose(1, 2, 0), (2, 1, 1))),
        "deep.png": Image.fromarray(np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
    paths = [tmp_path / name for name in pictures]
    expected = decode([Item(path, "x") for path in paths], 8, "x").numpy()
    np.testing.assert_array_equal(coerced(paths), expected)
    np.testing.assert_array_equal(coerced([str(path) for path in paths]), expected)
    np.testing.assert_array_equal(coerced(str(paths[0])), expected[:1])
    with ExitStack() as opened:
        opened_lazily = [opened.enter_context(Image.open(path)) for path in paths]
        np.testing.assert_array_equal(coerced(opened_lazily), expected)


def test_another_size_is_resized_and_cut_as_in_training() -> None:
    wide = np.tile(RGB, (1, 1, 2, 4))  # (5, 3, 16, 32)
    items = [Item(np.ascontiguousarray(x.transpose(1, 2, 0)), "x") for x in wide]
    expected = decode(items, 8, "x").numpy()
    np.testing.assert_array_equal(coerced(wide), expected)
    np.testing.assert_array_equal(coerced(list(wide)), expected)


def test_grey_becomes_three_equal_channels() -> None:
    expected = np.repeat(GREY, 3, axis=1)
    for grey in (GREY, GREY.transpose(0, 2, 3, 1), GREY / 255, list(GREY), list(GREY[:, 0])):
        np.testing.assert_array_equal(coerced(grey), expected)


def test_rgb_becomes_grey_as_pillow_weighs_it() -> None:
    pictures = [Image.fromarray(x) for x in RGB.transpose(0, 2, 3, 1)]
    expected = np.stack([np.asarray(x.convert("L")) for x in pictures])[:, None]
    for rgb in (RGB, RGB.transpose(0, 2, 3, 1), pictures, list(RGB)):
        np.testing.assert_array_equal(coerced(rgb, channels=1), expected)


def test_the_models_shape_decides_between_two_readings() -> None:
    tiny = RGB[:, :, :1, :3]  # (5, 3, 1, 3): no model of this shape
    with pytest.raises(DataError, match="two places"):
        coerced(tiny)
    points = RGB[:, :, :1, :1]  # (5, 3, 1, 1): RGB of one pixel, or grey of 3×1
    np.testing.assert_array_equal(coerced(points, channels=3, size=1), points)


def test_feature_vectors_are_taken_as_they_are() -> None:
    vectors = np.arange(30, dtype=np.uint8).reshape(3, 10, 1, 1)
    np.testing.assert_array_equal(coerced(vectors, channels=10, size=1), vectors)
    for wrong in (vectors[:, :9], vectors.repeat(2, axis=2), list(vectors)):
        with pytest.raises(DataError, match="images.* must be .*10"):
            coerced(wrong, channels=10, size=1)


REFUSED = {
    "empty list": ([], "images is empty"),
    "empty array": (RGB[:0], r"\(0, 3, 8, 8\) is empty"),
    "no pixels": (RGB[:, :, :, :0], r"\(5, 3, 8, 0\) is empty"),
    "int64": (RGB.astype(np.int64), r"\(5, 3, 8, 8\) is int64: allowed are uint8"),
    "uint16": (RGB.astype(np.uint16), "is uint16"),
    "bool": (RGB > 9, "is bool"),
    "int tensor": (torch.from_numpy(RGB).int(), "is int32"),
    "text": (np.array(["a.png"]), r"images of shape \(1,\) is <U5"),
    "floats to 255": (
        RGB.astype(np.float32),
        r"floats from 0 to 25\d: floats must lie in \[0, 1\]",
    ),
    "normalised": (RGB / 255 - 0.5, "floats from -0.5 to"),
    "NaN": (np.where(RGB > 250, np.nan, RGB / 255), "floats from nan to nan"),
    "infinity": (np.where(RGB > 250, np.inf, RGB / 255), "to inf"),
    "both ends three": (RGB[:, :, :, :3], r"\(5, 3, 8, 3\) could hold its channels in two places"),
    "one image, both ends": (RGB[0, :, :, :3], r"\(3, 8, 3\) could hold"),
    "four channels": (np.zeros((2, 4, 8, 8), np.uint8), r"\(2, 4, 8, 8\) must be .*C being 1 or 3"),
    "two axes": (RGB[0, 0], r"\(8, 8\) must be .*images\[:, None\]"),
    "grey stack": (RGB[:, 0], r"\(5, 8, 8\) must be .*images\[:, None\]"),
    "five axes": (RGB[None], r"\(1, 5, 3, 8, 8\) must be"),
    "stack in a list": ([RGB], r"images\[0\] of shape \(5, 3, 8, 8\) must be one image"),
    "int64 in a list": ([RGB[0], RGB[1].astype(int)], r"images\[1\] of shape .* is int64"),
    "number in a list": ([RGB[0], 7], r"images\[1\] must be .* not int"),
    "nothing": (None, "not NoneType"),
    "a mapping": ({"a": RGB[0]}, "not dict"),
    "missing file": (["gone.png"], r"images\[0\], gone.png, cannot be read"),
    "a folder": ([Path.cwd()], r"images\[0\], .*, cannot be read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_could_be_misread_is_refused_in_one_line(kind: str) -> None:
    images, said = REFUSED[kind]
    with pytest.raises(DataError, match=said) as caught:
        coerced(images)
    assert "\n" not in str(caught.value)


def test_three_grey_images_are_not_taken_for_one_coloured() -> None:
    with pytest.raises(DataError, match=r"\(3, 8, 8\) may be one RGB image or three grey ones"):
        coerced(GREY[:3, 0], channels=1)
    assert len(coerced(RGB[0][None], channels=1)) == 1
    assert len(coerced(RGB[0][:, None], channels=1)) == 3


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images\[0\], .*bad.png, is broken"):
        coerced([tmp_path / "bad.png"])
