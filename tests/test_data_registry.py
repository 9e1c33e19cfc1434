"""Data sets and modalities of the user's own: nothing in the package knows them beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config
from PIL import Image, ImageDraw
from torch import Tensor, nn

from cnn2gnn import distil, load_data
from cnn2gnn.config import DataConfig
from cnn2gnn.data import DataError, Item, Modality, Request, Samples, Source
from cnn2gnn.data.hashing import uniform
from cnn2gnn.registry import DATASETS, MODALITIES, STEMS, TEACHERS
from cnn2gnn.report.sheet import sample_sheet

LENGTH = 32


def squares(asked: Request) -> Source:
    """Bright and dark squares: a data set of the user's own, as many as its name says."""
    count = int(asked.place or 40)
    pixels = [np.full((4, 4), 40 * (at % 2) + at, np.uint8) for at in range(count)]
    items = [Item(image, f"square {at}") for at, image in enumerate(pixels)]
    samples = Samples(items, [at % 2 for at in range(count)], ["train"] * count, ("dark", "bright"))
    return Source("squares", (), lambda: samples, notes=("made up",))


def test_a_data_set_of_ones_own(registries: None) -> None:
    DATASETS.register("squares", squares)
    DATASETS.register("squares:COUNT", squares)
    splits = load_data("squares")
    assert splits.train.classes == ("dark", "bright") and splits.train.notes == ("made up",)
    assert [sum(map(len, load_data(name))) for name in ("squares", "squares:60")] == [40, 60]
    with pytest.raises(DataError, match="'square': did you mean 'squares'"):
        load_data("square")


def test_a_data_set_that_gives_no_source_is_told_what_to_give(registries: None) -> None:
    splits = load_data("digits")
    DATASETS.register("splits", lambda asked: splits)
    with pytest.raises(DataError, match=r"^data set 'splits': .*return a .*Source, not Splits"):
        load_data("splits")


@pytest.mark.parametrize("name", ["folder", "folder:", "digits:8", "parquet:", ":x"])
def test_a_place_is_given_to_those_that_take_one(name: str) -> None:
    with pytest.raises(DataError, match=f"unknown data set '{name}'.* known are digits, .*PATH"):
        load_data(name)


def test_the_parameter_lists_what_is_registered() -> None:
    described = DataConfig.__dataclass_fields__["dataset"].metadata["help"]
    assert described == ", ".join(DATASETS)


# From here on: sine waves of 8-bit samples (N, 1, L), whose class is their frequency.


def decode_waves(items: Sequence[Item], size: int | None, title: str) -> Tensor:
    time = torch.arange(size or LENGTH) / LENGTH
    turns = [torch.sin(2 * torch.pi * float(bytes(item.content)) * time) for item in items]
    return (torch.stack(turns)[:, None] * 100 + 128).byte()


def check_waves(waves: Tensor) -> None:
    if waves.ndim != 3:
        raise DataError(f"waves must be (N, 1, L), not {tuple(waves.shape)}")


def shift(waves: Tensor, indices: Tensor, view: int, augmentation: str) -> Tensor:
    """Another phase."""
    if view == 0 or augmentation == "none":
        return waves
    length = waves.shape[-1]
    places = torch.arange(length) + uniform(indices, length, view)[:, None]
    return waves.gather(2, (places % length)[:, None])


def plot(wave: Tensor) -> Image.Image:
    picture = Image.new("RGB", (LENGTH, 64), "white")
    ImageDraw.Draw(picture).line(list(enumerate((wave[0] // 4).tolist())), "black")
    return picture


def waves(asked: Request) -> Source:
    frequencies = np.random.default_rng(0).normal([2, 5], 0.3, (60, 2)).flatten()
    items = [Item(str(f).encode(), f"wave {at}") for at, f in enumerate(frequencies)]
    samples = Samples(items, [0, 1] * 60, ["train"] * 120, ("low", "high"))
    return Source("waves", (), lambda: samples, modality="wave")


class WaveStem(nn.Sequential):
    feature_width = 8

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(nn.Conv1d(channels, 8, 7), nn.ReLU(), nn.AdaptiveMaxPool1d(1))
        self.append(nn.Flatten())


def wave_teacher(channels: int, size: int, classes: int, weights: str | None) -> nn.Module:
    return nn.Sequential(WaveStem(channels, size), nn.Linear(8, classes))


def test_another_modality_is_loaded_varied_shown_and_distilled(
    registries: None, tmp_path: Path
) -> None:
    MODALITIES.register("wave", Modality(decode_waves, check_waves, shift, plot))
    DATASETS.register("waves", waves)
    STEMS.register("wave", WaveStem)
    TEACHERS.register("wave", wave_teacher)
    train = load_data("waves").train
    assert train.images.shape == (len(train), 1, LENGTH)
    rows = torch.tensor([7, 3])
    assert torch.equal(train.view(rows, 0, "auto"), train.images[rows])
    assert not torch.equal(train.view(rows, 1, "auto"), train.images[rows])
    assert train.preview(3).size == (LENGTH, 64)
    sample_sheet(train).savefig(tmp_path / "sheet.png")
    with pytest.raises(DataError, match=r"waves must be \(N, 1, L\)"):
        train.subset([0]).__class__(train.images[..., None], train.labels, ("a", "b"), "x", "wave")
    asked = {"dataset": "waves", "stem": "wave", "teacher": "wave", "run": "waves"}
    longer = {"teacher_epochs": 20, "epochs": 20, "batch_size": 16, "teacher_batch_size": 16}
    run = distil(small_config(tmp_path, **asked, **longer))
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.9
    assert run.load_student().stem.__class__ is WaveStem
