"""Class folders and both layouts of Mini-ImageNet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from cnn2gnn.data import DataError, ImageSet, load
from cnn2gnn.data.folder import suffixes


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


def test_what_is_left_out_is_told_in_one_line_also_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "pets"
    fill(root / "dog", 8)
    fill(root / "cat", 8)
    fill(root / "cat" / ".ipynb_checkpoints", 3)
    fill(root / "cat" / "@eaDir" / "001.png", 2)  # Synology's previews
    fill(root / ".thumbs" / "x", 2)
    (root / "dog" / "._001.png").write_bytes(b"")
    (root / "dog" / "photo.heic").write_bytes(b"")
    (root / "README").write_text("pets")
    Image.new("L", (4, 4)).save(root / "cover.png")
    (root / "dog" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "dog" / "pipe.png")
    (root / "cow").mkdir()
    told = (
        "left out: hidden folders 3 (.thumbs, …), files of unknown suffix 2 (README, …), "
        "images outside class folders 1 (cover.png), hidden files 1 (dog/._001.png), "
        "links to nothing and special files 2 (dog/gone, …), folders without images 1 (cow)"
    )
    for _ in range(2):
        caplog.clear()
        splits = load(f"folder:{root}")
        assert [record.getMessage() for record in caplog.records] == [f"folder:pets: {told}"]
        assert all(part.notes == (told,) for part in splits)
        assert sum(map(len, splits)) == 16
    (root / "dog" / "more.txt").write_text("left out too, and told at once")
    assert "unknown suffix 3" in load(f"folder:{root}").train.notes[0]


def test_a_clean_folder_is_loaded_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        fill(tmp_path / "x" / name, 8)
    assert load(f"folder:{tmp_path}/x").train.notes == () and not caplog.records


def test_a_validation_part_that_becomes_the_test_part_is_told(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in "ab":
            fill(tmp_path / "x" / part / name, 8)
    told = "no test part: the validation part is the test part"
    splits = load(f"folder:{tmp_path}/x")
    assert splits.train.notes == (told,) and len(splits.test) == 16
    fill(tmp_path / "x" / "test" / "a", 3)
    untested = "no test image of 'b': results say nothing of it"
    assert load(f"folder:{tmp_path}/x").train.notes == (untested,)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "pets", tmp_path / "disk2" / "cats"
    fill(root / "cat", 8)
    fill(root / "dog", 8)
    fill(elsewhere, 8, value=20)
    (root / "cat" / "more").symlink_to(elsewhere)
    (root / "lion").symlink_to(elsewhere)
    splits = load(f"folder:{root}")
    counts = sum(part.labels.bincount(minlength=3) for part in splits)
    assert splits.train.classes == ("cat", "dog", "lion") and counts.tolist() == [16, 8, 8]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../dog/../cat"])
def test_a_link_back_is_refused(target: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / name / "inside", 4)
    (tmp_path / "pets" / "cat" / "inside" / "back").symlink_to(target)
    with pytest.raises(DataError, match=r"cat/inside/back is a link to .*, in which it lies"):
        load(f"folder:{tmp_path}/pets")


def test_two_folders_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    for name, other in (("cat", "dog"), ("dog", "cat")):
        fill(tmp_path / "pets" / name, 4)
        (tmp_path / "pets" / name / "more").symlink_to(tmp_path / "pets" / other)
    with pytest.raises(DataError, match="in which it lies"):
        load(f"folder:{tmp_path}/pets")


def test_a_folder_linked_under_another_name_keeps_that_name(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "x123" / name, 8)
    (tmp_path / "pets").symlink_to(tmp_path / "x123")
    assert load(f"folder:{tmp_path}/pets").train.name == "folder:pets"


@pytest.mark.parametrize("kind", [".jfif", ".jpe", ".JPG", ".apng", ".pbm", ".tif"])
def test_every_suffix_of_a_format_that_is_read_counts(kind: str, tmp_path: Path) -> None:
    formats = {".apng": "PNG", ".pbm": "PPM", ".tif": "TIFF"}
    for name in "ab":
        fill(tmp_path / "x" / name, 6)
        for file in sorted((tmp_path / "x" / name).iterdir())[:3]:
            image = Image.open(file)
            image.save(file.with_suffix(kind), formats.get(kind, "JPEG"))
    assert kind.lower() in suffixes()
    assert sum(map(len, load(f"folder:{tmp_path}/x"))) == 18


@pytest.mark.parametrize("extra", ["__MACOSX/._train", "notes/cat.xml", "models/a.pth"])
def test_folders_without_images_beside_the_parts_change_nothing(extra: str, tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            fill(tmp_path / "pets" / part / name, count)
    (tmp_path / "pets" / extra).parent.mkdir()
    (tmp_path / "pets" / extra).write_text("no image")
    splits = load(f"folder:{tmp_path}/pets")
    assert splits.train.classes == ("cat", "dog") and len(splits.test) == 8


def test_images_beside_the_parts_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            fill(tmp_path / "pets" / part / name, 4)
    fill(tmp_path / "pets" / "samples", 3)
    message = "has the parts test, train, and beside .* samples: name that"
    with pytest.raises(DataError, match=message):
        load(f"folder:{tmp_path}/pets")


def test_two_folders_of_one_part_are_one(tmp_path: Path) -> None:
    for at, part in enumerate(("train", "Training", "test")):
        for name in ("cat", "dog"):
            fill(tmp_path / "pets" / part / name, 4, value=10 * at)
    splits = load(f"folder:{tmp_path}/pets")
    assert len(splits.train) + len(splits.validation) == 16 and len(splits.test) == 8


def test_a_test_part_without_classes_is_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / "train" / name, 12)
    fill(tmp_path / "pets" / "test", 5)
    splits = load(f"folder:{tmp_path}/pets")
    assert splits.train.notes == ("left out: images outside class folders 5 (test/000.png, …)",)
    assert sum(map(len, splits)) == 24


def test_one_folder_too_deep_says_so(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / "pets" / name, 8)
    with pytest.raises(DataError, match="one class only, 'pets'; are cat, dog the classes"):
        load(f"folder:{tmp_path}/pets")


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


@pytest.mark.parametrize("beside", ["holdout/cat", "test_set/cat", "unlabelled"])
def test_a_part_beside_what_is_none_is_no_class(tmp_path: Path, beside: str) -> None:
    for name in ("train/cat", "train/dog", beside):
        fill(tmp_path / name, 8)
    first = beside.split("/")[0]
    with pytest.raises(DataError, match=f"has the parts train, .* images in {first}: name that"):
        load(f"folder:{tmp_path}")


def test_two_parts_beside_what_is_none_are_no_classes_either(tmp_path: Path) -> None:
    for name in ("train", "test/cat", "val/cat", "holdout"):
        fill(tmp_path / name, 8)
    with pytest.raises(DataError, match="has the parts test, val, .* images in holdout"):
        load(f"folder:{tmp_path}")


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


def test_a_spreadsheets_table_is_read_and_what_it_omits_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "images", 20)
    rows = [f"{at:03d}.png,{'fox' if at % 2 else 'hare'}\r\n" for at in range(16)]
    text = "filename,label\r\n" + "".join(rows) + ",fox\r\n"
    (tmp_path / "train.csv").write_text(text, encoding="utf-8-sig")
    splits = load("mini-imagenet", data_dir=tmp_path)
    assert sum(map(len, splits)) == 16
    assert splits.train.notes == (
        "left out: rows without image 1 (line 18 of train.csv), "
        "files that no table names 4 (images/016.png, …)",
    )


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "images", 2)
    (tmp_path / "train.csv").write_bytes("filename,label\n000.png,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.csv cannot be read as CSV in UTF-8"):
        load("mini-imagenet", data_dir=tmp_path)
    (tmp_path / "train.csv").write_text("filename,label\n000.png,a\n001.png\n")
    with pytest.raises(DataError, match=r"line 3 of .*train\.csv has no label"):
        load("mini-imagenet", data_dir=tmp_path)


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
