"""Images in class folders, and Mini-ImageNet in either of the layouts it goes by."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cnn2gnn.data.bundled import DEFAULT_DATA_DIR
from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.data.source import PART_NAMES, PARTS, TEST_SHARE, Samples, Source

# As in torchvision's ImageFolder, and GIF.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# part -> the files and class names of its images
Listing = Mapping[str, list[tuple[Path, str]]]

MINI_IMAGENET_FOLDERS = ("mini-imagenet", "miniImageNet", "mini_imagenet", "miniimagenet")
# 100 of the 600 images a class.
MINI_IMAGENET_TEST_SHARE = 1 / 6


def folder_source(path: str) -> Source:
    """Find images in `path/CLASS/…`, or in `path/train/CLASS/…` with `val` and `test` beside it.

    Hidden files and files that are no images by their suffix are passed over.

    Raises:
        DataError: there is no such folder, it holds no images, or a part has a class that the
            training part lacks.
    """
    root = Path(path).expanduser().resolve()
    listing = _list_folder(root)
    classes = {label for _, label in listing["train"]}
    for part, images in listing.items():
        strangers = sorted({label for _, label in images} - classes)
        if strangers:
            raise DataError(f"{root}: the {part} part has classes that train lacks: {strangers[0]}")
    return _source(f"folder:{root.name}", listing, TEST_SHARE)


def mini_imagenet_source(data_dir: str | Path | None) -> Source:
    """Find Mini-ImageNet in `data_dir`: class folders, or `images/` with train.csv, val.csv, ….

    The few-shot split gives each part classes of its own, which serves no classifier: then all
    images are pooled, and a fixed sixth of each class (100 of 600) is the test part.

    Raises:
        DataError: it is in neither layout there.
    """
    folder = Path(data_dir or DEFAULT_DATA_DIR).expanduser().resolve()
    places = [folder / name for name in MINI_IMAGENET_FOLDERS] + [folder]
    root = next((place for place in places if place.is_dir()), None)
    if root is None or not any(root.iterdir()):
        raise DataError(
            f"mini-imagenet is not in data_dir={str(folder)!r}: put there its class folders, or "
            "images/ with train.csv, val.csv and test.csv (it may not be redistributed)"
        )
    listing = _list_csv(root) if (root / "images").is_dir() else _list_folder(root)
    groups = [{label for _, label in images} for images in listing.values()]
    if len(groups) > 1 and len(set.union(*groups)) == sum(map(len, groups)):
        listing = {"train": [image for images in listing.values() for image in images]}
    return _source("mini-imagenet", listing, MINI_IMAGENET_TEST_SHARE)


def _source(name: str, listing: Listing, test_share: float) -> Source:
    files = [file for images in listing.values() for file, _ in images]
    names = [label for images in listing.values() for _, label in images]
    parts = [part for part, images in listing.items() for _ in images]
    classes = tuple(sorted(set(names)))
    index = {label: i for i, label in enumerate(classes)}
    samples = Samples(
        [Item(file, str(file)) for file in files],
        [index[label] for label in names],
        parts,
        classes,
        test_share,
    )
    return Source(name, tuple(files), lambda: samples)


def _list_folder(root: Path) -> Listing:
    folders = _subfolders(root)
    names = {folder.name.lower() for folder in folders}
    # Parts only if nothing else is there: "train" may well be a class beside "bus" and "car".
    divided = "train" in {PART_NAMES.get(name) for name in names} and names <= set(PART_NAMES)
    if divided:
        listing: Listing = {
            PART_NAMES[folder.name.lower()]: _class_images(folder) for folder in folders
        }
    else:
        listing = {"train": _class_images(root)}
    if not listing["train"]:
        raise DataError(f"{root} holds no images in class folders ({', '.join(SUFFIXES)})")
    return listing


def _class_images(root: Path) -> list[tuple[Path, str]]:
    return [
        (file, folder.name)
        for folder in _subfolders(root)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]


def _subfolders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _list_csv(root: Path) -> Listing:
    listing = {}
    for part in PARTS:
        table = root / ("val.csv" if part == "validation" else f"{part}.csv")
        if not table.is_file():
            continue
        with table.open(newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if not {"filename", "label"} <= set(columns):
                raise DataError(
                    f"{table} needs the columns filename, label; it has {', '.join(columns)}"
                )
            listing[part] = [(root / "images" / row["filename"], row["label"]) for row in rows]
    if "train" not in listing:
        raise DataError(f"{root} has images/ but no train.csv")
    return listing
