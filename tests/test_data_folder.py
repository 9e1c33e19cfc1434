"""Class folders and both layouts of Mini-ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnn2gnn.data import DataError, ImageSet, load


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def values(part: ImageSet) -> list[int]:
    """The grey value that marks each image."""
    return part.images[:, 0, 0, 0].tolist()


def fill(folder: Path, count: int, value: int = 0, suffix: str = ".png") -> None:
    """Put `count` grey images into `folder`, numbered from `value` by their grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(value, value + count):
        Image.new("L", (4, 4), at).save(folder / f"{at:03d}{suffix}")


def test_flat_class_folders(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    fill(root / "dog", 20)
    fill(root / "cat" / "indoors", 20, suffix=".bmp")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / "._000.png").write_text("left behind by a file manager")
    (root / ".hidden").mkdir()
    splits = load(f"folder:{root}")
    assert splits.train.classes == ("cat", "dog") and splits.train.name == "folder:pets"
    assert [len(part) for part in splits] == [27, 3, 10]
    assert splits.test.labels.bincount().tolist() == [5, 5]


def test_part_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    for at, part in enumerate(("train", "valid", "test")):
        fill(tmp_path / part / "a", 3, value=10 * at)
        fill(tmp_path / part / "b", 2, value=10 * at + 5)
    splits = load(f"folder:{tmp_path}")
    assert [values(part) for part in splits] == [
        [0, 1, 2, 5, 6],
        [10, 11, 12, 15, 16],
        [20, 21, 22, 25, 26],
    ]
    assert all(part.labels.tolist() == [0, 0, 0, 1, 1] for part in splits)


def test_train_may_be_a_class(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        fill(tmp_path / name, 8)
    assert load(f"folder:{tmp_path}").train.classes == ("bus", "train")


def test_image_size_resizes_odd_sizes(tmp_path: Path) -> None:
    fill(tmp_path / "x" / "a", 6)
    fill(tmp_path / "x" / "b", 6)
    Image.new("RGB", (9, 5), "red").save(tmp_path / "x" / "a" / "wide.png")
    with pytest.raises(DataError, match=r"image_size must be given, .*wide\.png is 9×5"):
        load(f"folder:{tmp_path}/x")
    splits = load(f"folder:{tmp_path}/x", image_size=6)
    assert (splits.train.channels, splits.train.size) == (3, 6)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder .*gone"):
        load(f"folder:{tmp_path}/gone")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(
        DataError,
        match=r"empty holds no images in class folders \(\.apng, .*folders without images 1 \(a\)",
    ):
        load(f"folder:{tmp_path}/empty")
    fill(tmp_path / "x" / "train" / "a", 4)
    fill(tmp_path / "x" / "test" / "b", 4)
    with pytest.raises(DataError, match="folder:x: no training image is of the class 'b'"):
        load(f"folder:{tmp_path}/x")
    broken = tmp_path / "y" / "a"
    fill(broken, 8)
    fill(tmp_path / "y" / "b", 8)
    (broken / "003.png").write_bytes((broken / "003.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"y/a/003\.png"):
        load(f"folder:{tmp_path}/y")


def write_csv(root: Path, parts: dict[str, list[tuple[str, str]]]) -> None:
    for part, rows in parts.items():
        lines = ["filename,label", *(f"{file},{label}" for file, label in rows)]
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")


def test_mini_imagenet_few_shot_tables_are_pooled(tmp_path: Path) -> None:
    root = tmp_path / "mini-imagenet"
    fill(root / "images", 36)
    rows = [(f"{at:03d}.png", f"n{at // 12}") for at in range(36)]
    write_csv(root, {"train": rows[:12], "val": rows[12:24], "test": rows[24:]})
    splits = load("mini-imagenet", data_dir=tmp_path)
    assert splits.train.classes == ("n0", "n1", "n2")
    assert splits.test.labels.bincount().tolist() == [2, 2, 2]  # a sixth of each class
    shown = {v for part in splits for v in values(part)}
    assert shown == set(range(36))
    assert splits.test.labels.tolist() == [v // 12 for v in values(splits.test)]


def test_mini_imagenet_tables_over_the_same_classes_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "images", 24)
    rows = [(f"{at:03d}.png", f"n{at % 2}") for at in range(24)]
    write_csv(tmp_path, {"train": rows[:16], "test": rows[16:]})
    splits = load("mini-imagenet", data_dir=tmp_path)
    assert values(splits.test) == list(range(16, 24))


def test_mini_imagenet_class_folders(tmp_path: Path) -> None:
    for at in range(2):
        fill(tmp_path / "miniImageNet" / f"n{at}", 12)
    splits = load("mini-imagenet", data_dir=tmp_path)
    assert splits.train.classes == ("n0", "n1") and len(splits.test) == 4


def test_mini_imagenet_errors(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="mini-imagenet is not in data_dir=.*images/ with train.csv"
    ):
        load("mini-imagenet", data_dir=tmp_path / "gone")
    fill(tmp_path / "images", 4)
    with pytest.raises(DataError, match=r"has images/ but no train\.csv"):
        load("mini-imagenet", data_dir=tmp_path)
    (tmp_path / "train.csv").write_text("file,class\n")
    with pytest.raises(DataError, match="needs the columns filename, label; it has file, class"):
        load("mini-imagenet", data_dir=tmp_path)
    write_csv(tmp_path, {"train": [("gone.png", "a"), ("000.png", "b")]})
    with pytest.raises(DataError, match=r"images/gone\.png"):
        load("mini-imagenet", data_dir=tmp_path)
