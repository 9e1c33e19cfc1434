"""The example beside an export sees an image as the student does."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from test_export import IMAGES, untrained

from cnn2gnn.data.coerce import as_images

# Not square, and no two corners alike: what is turned, cut or resized otherwise is seen.
COLOUR = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8).repeat(9, 0)
PHOTO = Image.fromarray(COLOUR[..., :3]).resize((40, 27), Image.Resampling.BICUBIC)
SHARES = Image.linear_gradient("L").resize(PHOTO.size)
DEEP = np.arange(27 * 40, dtype=np.uint16).reshape(27, 40) * 60


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    PHOTO.save(path, exif=exif)


def transparent(path: Path, mode: str) -> None:
    image = PHOTO.convert(mode)
    image.putalpha(SHARES)
    image.save(path)


FILES: dict[str, Callable[[Path], None]] = {
    "plain.png": PHOTO.save,
    "grey.png": PHOTO.convert("L").save,
    "two-values.png": PHOTO.convert("1").save,
    "palette.png": PHOTO.convert("P").save,
    "cmyk.jpg": PHOTO.convert("CMYK").save,
    "transparent.png": lambda path: transparent(path, "RGB"),
    "transparent-grey.png": lambda path: transparent(path, "L"),
    "transparent-palette.png": lambda path: PHOTO.convert("P").save(path, transparency=5),
    "grey-16-bit.png": Image.fromarray(DEEP).save,
    "transparent-16-bit.png": lambda path: Image.fromarray(DEEP).save(path, transparency=600),
    "fitting.png": PHOTO.resize((8, 8)).save,
    **{f"turned-{way}.jpg": lambda path, way=way: turned(path, way) for way in range(1, 9)},
}


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of an export whose student takes so many channels."""
    folder = tmp_path_factory.mktemp("export")
    samples = IMAGES[:, : request.param]
    untrained(samples, graph="none").export(folder, samples[:3])
    return folder / "classify.py"


def test_the_example_prepares_images_as_training_does(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["classify.py"])
    script = runpy.run_path(str(example))
    apart = {}
    for name, save in FILES.items():
        path = tmp_path / name
        save(path)
        expected = as_images(path, channels=script["channels"], size=8)
        found = script["pixels_of"](str(path))
        assert found.dtype == np.uint8 and found.shape == expected.shape
        apart[name] = int((torch.tensor(found).int() - expected).abs().max())
    assert apart == dict.fromkeys(FILES, 0)


def test_the_example_refuses_pixels_without_a_range(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep.tiff"
    for image in (PHOTO.convert("F"), Image.fromarray(DEEP.astype(np.int32) * 100)):
        image.save(path)
        monkeypatch.setattr(sys, "argv", ["classify.py", str(path)])
        with pytest.raises(SystemExit, match="deep.tiff: save it with 8 or 16 bits"):
            runpy.run_path(str(example))
