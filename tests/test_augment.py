"""Augmentation is a pure function of (index, view): the same pixels wherever it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.data import AUGMENTATIONS, augment
from cnn2gnn.data.hashing import hashed, uniform

AUGMENTED = [augmentation for augmentation in AUGMENTATIONS if augmentation != "none"]


def photographs(count: int, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(count + size)
    # From 1: black then marks only what augmentation filled in.
    return torch.randint(
        1, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator
    )


def python_hash(value: int, *salts: int) -> int:
    """The hash in Python's unbounded integers."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x21F0AAAD) % 2**32
        x = ((x ^ (x >> 15)) * 0x735A2D97) % 2**32
        return x ^ (x >> 15)

    mixed = mix(value % 2**32)
    for salt in salts:
        mixed = mix((mixed + salt * 0x9E3779B9 + 1) % 2**32)
    return mixed


def slow_augment(image: np.ndarray, index: int, view: int, augmentation: str) -> np.ndarray:
    """One image, one pixel at a time, straight from the description."""
    size = image.shape[-1]
    pad, hole = max(1, size // 8), max(1, size // 4)

    def draw(high: int, stream: int) -> int:
        return python_hash(index, view, stream) * high // 2**32

    down, right = draw(2 * pad + 1, 0) - pad, draw(2 * pad + 1, 1) - pad
    mirrored = "flip" in augmentation and draw(2, 2) == 1
    top, left = draw(size, 3) - hole // 2, draw(size, 4) - hole // 2
    out = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            y, x = row + down, (size - 1 - column if mirrored else column) + right
            inside = 0 <= y < size and 0 <= x < size
            cut = (
                "cutout" in augmentation
                and top <= row < top + hole
                and left <= column < left + hole
            )
            if inside and not cut:
                out[:, row, column] = image[:, y, x]
    return out


@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**40), max_size=3))
def test_the_hash_is_exact_in_int64(value: int, salts: list[int]) -> None:
    assert hashed(torch.tensor([value]), *salts).tolist() == [python_hash(value, *salts)]


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    rows = torch.arange(90_000)
    first, second = uniform(rows, 9, 1, 0), uniform(rows, 9, 1, 1)
    counts = torch.bincount(first * 9 + second, minlength=81)  # 81 cells of 1,111
    chi_squared = ((counts - 90_000 / 81) ** 2 / (90_000 / 81)).sum()
    assert chi_squared < 128  # 80 degrees of freedom: exceeded once in 2,000


def test_views_of_an_image_are_independent() -> None:
    counts = torch.stack([uniform(torch.arange(1000), 2, view, 2) for view in range(1, 65)])
    assert (counts.float().mean(0) - 0.5).abs().max() < 0.3  # over views, for each image
    assert (counts.float().mean(1) - 0.5).abs().max() < 0.08  # over images, for each view


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(AUGMENTED),
    st.integers(4, 19),
    st.sampled_from([1, 3]),
    st.lists(st.integers(0, 2**33), min_size=1, max_size=4),
    st.integers(1, 2**20),
)
def test_equals_the_slow_oracle(
    augmentation: str, size: int, channels: int, indices: list[int], view: int
) -> None:
    images = photographs(len(indices), channels, size)
    fast = augment(images, torch.tensor(indices), view, augmentation)
    slow = [
        slow_augment(image, index, view, augmentation)
        for image, index in zip(images.numpy(), indices, strict=True)
    ]
    np.testing.assert_array_equal(fast.numpy(), np.stack(slow))


@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_the_batch_around_an_image_does_not_matter(augmentation: str) -> None:
    images, rows = photographs(64), torch.arange(64)
    whole = augment(images, rows, 3, augmentation)
    shuffled = torch.randperm(64)
    assert torch.equal(augment(images[shuffled], rows[shuffled], 3, augmentation), whole[shuffled])
    assert torch.equal(augment(images[17:18], rows[17:18], 3, augmentation), whole[17:18])


@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_the_global_generator_is_neither_read_nor_moved(augmentation: str) -> None:
    images, rows = photographs(8), torch.arange(8)
    torch.manual_seed(0)
    first = augment(images, rows, 1, augmentation)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(augment(images, rows, 1, augmentation), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_views_differ_and_the_input_stays(augmentation: str) -> None:
    images, rows = photographs(64), torch.arange(64)
    before = images.clone()
    one, two = augment(images, rows, 1, augmentation), augment(images, rows, 2, augmentation)
    assert (one != two).flatten(1).any(1).float().mean() > 0.9
    assert torch.equal(images, before)


def test_view_zero_and_none_are_clean() -> None:
    images, rows = photographs(4), torch.arange(4)
    assert all(
        torch.equal(augment(images, rows, 0, augmentation), images)
        for augmentation in AUGMENTATIONS
    )
    assert torch.equal(augment(images, rows, 5, "none"), images)


def test_crop_never_mirrors_and_crop_flip_mirrors_half() -> None:
    images, rows = photographs(1).expand(2000, -1, -1, -1), torch.arange(2000)
    for augmentation, expected in (("crop", 0.0), ("crop-flip", 0.5)):
        views = augment(images, rows, 1, augmentation)
        # The centre is never padding. Which way round it lies in the image tells the mirror.
        centre, source = views[:, 0, 16, 12:20], images[0, 0]
        plain = source.unfold(1, 8, 1).flatten(0, 1)
        mirrored = plain.flip(1)
        as_is = (centre[:, None] == plain).all(2).any(1)
        turned = (centre[:, None] == mirrored).all(2).any(1)
        assert torch.equal(as_is, ~turned)
        assert turned.float().mean() == pytest.approx(expected, abs=0.04)


def test_cutout_blackens_a_square_of_a_quarter_side() -> None:
    images, rows = photographs(500), torch.arange(500)
    cropped = augment(images, rows, 1, "crop-flip")
    holed = augment(images, rows, 1, "crop-flip-cutout")
    hole = (holed != cropped).any(1)  # (N, S, S)
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert heights.max() == widths.max() == 8
    assert (holed.movedim(1, 3)[hole] == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_the_gpu_gives_the_same_pixels(augmentation: str) -> None:
    images, rows = photographs(256), torch.arange(256) * 7919
    on_gpu = augment(images.cuda(), rows, 9, augmentation)
    assert torch.equal(on_gpu.cpu(), augment(images, rows, 9, augmentation))


def test_wrong_input_is_named() -> None:
    images, rows = photographs(4), torch.arange(4)
    with pytest.raises(
        ValueError, match="augmentation='flip' must be one of none, crop, crop-flip"
    ):
        augment(images, rows, 1, "flip")
    with pytest.raises(ValueError, match="view=-1 must be at least 0"):
        augment(images, rows, -1, "crop")
    with pytest.raises(ValueError, match=r"indices \(3,\) must be \(4,\)"):
        augment(images, rows[:3], 1, "crop")
