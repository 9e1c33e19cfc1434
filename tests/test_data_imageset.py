"""A set of images is what it says: checked, augmented, fingerprinted, shown in a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_data_images import noise

from cnn2gnn import load_data
from cnn2gnn.data import DataError, ImageSet, augment, channel_statistics
from cnn2gnn.models.layers import Normalise


def image_set(**more: object) -> ImageSet:
    parts = {
        "images": torch.from_numpy(noise(4, 3, 2, 2)),
        "labels": torch.tensor([0, 1, 1, 0]),
        "classes": ("cat", "dog"),
        "name": "pets",
    }
    return ImageSet(**(parts | more))  # type: ignore[arg-type]


def test_an_image_set_is_what_it_says() -> None:
    pets = image_set()
    assert (len(pets), pets.channels, pets.size) == (4, 3, 2)
    part = pets.subset([2, 0])
    assert torch.equal(part.images, pets.images[[2, 0]]) and part.labels.tolist() == [1, 0]
    with pytest.raises(AttributeError):
        pets.name = "x"  # type: ignore[misc]


def test_a_view_is_the_augmentation_of_its_images_and_a_preview_their_picture() -> None:
    pets = image_set()
    rows = torch.tensor([3, 1])
    expected = augment(pets.images[rows], rows, 2, "crop-flip")
    assert torch.equal(pets.view(rows, 2, "crop-flip"), expected)
    assert torch.equal(pets.to("cpu").view(rows, 0, "crop-flip"), pets.images[rows])
    picture = pets.preview(2)
    np.testing.assert_array_equal(np.asarray(picture), pets.images[2].permute(1, 2, 0))
    grey = image_set(images=pets.images[:, :1]).preview(2)
    assert grey.mode == "L" and np.array_equal(np.asarray(grey), pets.images[2, 0])


@pytest.mark.parametrize(
    ("channels", "size", "name", "expected"),
    [
        (3, 8, "mine", "crop-flip"),
        (1, 8, "mine", "crop"),
        (1, 8, "digits", "crop"),
        (1, 28, "fashion-mnist", "crop-flip"),
        (64, 1, "features", "none"),
        (3, 1, "features", "none"),
    ],
)
def test_what_may_be_a_digit_is_not_mirrored_unless_asked(
    channels: int, size: int, name: str, expected: str
) -> None:
    pixels = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    images = ImageSet(pixels, torch.tensor([0, 1]), ("a", "b"), name)
    assert images.augmentation_for("auto") == expected
    assert images.augmentation_for("crop-flip-cutout") == "crop-flip-cutout"


def test_the_fingerprint_changes_with_everything_but_the_name() -> None:
    pets = image_set()
    images = pets.images.clone()
    images[3, 2, 1, 1] ^= 1
    others = [
        image_set(images=images),
        image_set(images=pets.images.view(4, 3, 2, 2).flip(0)),
        image_set(labels=torch.tensor([1, 1, 1, 0])),
        image_set(classes=("cat", "fox")),
        pets.subset([0, 1, 2]),
    ]
    assert len({pets.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert image_set(name="x").fingerprint == pets.fingerprint
    assert pets.subset(range(4)).fingerprint == pets.fingerprint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images": torch.zeros(4, 3, 2, 2)}, "images must be uint8"),
        ({"images": torch.zeros(4, 3, 2, 3, dtype=torch.uint8)}, r"not torch.uint8 \(4, 3, 2, 3\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be int64 \(4,\)"),
        ({"labels": torch.zeros(4, dtype=torch.int32)}, "not torch.int32"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, "label 2 of image 2 in pets: allowed are 0 to 1"),
        ({"labels": torch.tensor([0, -1, 1, 0])}, "label -1 of image 1"),
    ],
)
def test_a_wrong_image_set_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_set(**more)


def test_statistics_equal_the_direct_ones() -> None:
    images = torch.from_numpy(noise(50, 3, 7, 7, high=200))
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    torch.testing.assert_close(mean.double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(std.double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)
    normal = Normalise(mean, std)(images)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(3), rtol=1e-3, atol=0)


def test_a_constant_channel_is_centred_only() -> None:
    images = torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)
    assert Normalise(*channel_statistics(images))(images).abs().max() < 1e-6


def test_a_mask_is_refused_instead_of_read_as_indices() -> None:
    images = image_set()
    mask = images.labels == images.labels[0]
    with pytest.raises(DataError, match="indices must be integers"):
        images.subset(mask)
    kept = images.subset(mask.nonzero()[:, 0])
    assert len(kept) == mask.sum() and (kept.labels == images.labels[0]).all()
    assert len(images.subset([])) == 0


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"images": np.zeros((2, 1, 4, 4), np.uint8)}, "images must be a tensor, not ndarray"),
        ({"images": torch.zeros(2, 0, 4, 4, dtype=torch.uint8)}, "images must be uint8 .N, C, S"),
        ({"labels": [0, 1]}, "labels must be a tensor, not list"),
        ({"classes": "ab"}, "classes='ab' must be names"),
        ({"classes": (1, 2)}, "classes=.1, 2. must be names"),
        ({"classes": torch.zeros(50, 50)}, "classes=tensor.*… must be names"),
        ({"name": None}, "name=None must be a text"),
        ({"modality": "images"}, "modality='images' must be one of image, audio"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_set_names_what_it_cannot_be_made_of(wrong: dict, told: str) -> None:
    right = {"images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "labels": torch.tensor([0, 1])}
    right |= {"classes": ["a", "b"], "name": "own"}
    assert ImageSet(**right).classes == ("a", "b")
    with pytest.raises(DataError, match=f"^{told}") as error:
        ImageSet(**right | wrong)
    assert "\n" not in str(error.value)


def test_a_cell_that_ends_in_data_shows_a_line_a_part() -> None:
    shown = repr(load_data("digits"))
    assert "train=ImageSet('digits': 1,213 x image 1x8x8, 10 classes)" in shown
    assert "tensor" not in shown and len(shown) < 250
