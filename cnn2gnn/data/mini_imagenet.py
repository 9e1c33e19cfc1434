"""Mini-ImageNet in either of the layouts it goes by."""

from __future__ import annotations

import csv
from pathlib import Path

from cnn2gnn.data.bundled import DEFAULT_DATA_DIR
from cnn2gnn.data.folder import Listing, list_folder, listed_source, suffixes
from cnn2gnn.data.listing import absolute, below, files_below
from cnn2gnn.data.names import LeftOut, composed, shown
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PARTS, Request, Source

FOLDERS = ("mini-imagenet", "miniImageNet", "mini_imagenet", "miniimagenet")
COLUMNS = ("filename", "label")
# 100 of the 600 images a class.
TEST_SHARE = 1 / 6


def mini_imagenet_source(asked: Request) -> Source:
    """Find Mini-ImageNet in `data_dir`: class folders, or `images/` with train.csv, val.csv, ….

    The few-shot split gives each part classes of its own, which serves no classifier: then all
    images are pooled, and a fixed sixth of each class (100 of 600) is the test part.

    Raises:
        DataError: it is in neither layout there.
    """
    folder, left_out = absolute(asked.data_dir or DEFAULT_DATA_DIR), LeftOut()
    places = [folder / name for name in FOLDERS] + [folder]
    root = next((place for place in places if place.is_dir()), None)
    if root is None or not any(root.iterdir()):
        raise DataError(
            f"mini-imagenet is not in data_dir={str(folder)!r}: put there its class folders, or "
            "images/ with train.csv, val.csv and test.csv (it may not be redistributed)"
        )
    tables = _tables(root) if (root / "images").is_dir() else {}
    listing = (
        _list_tables(root, tables, left_out) if tables else list_folder(root, left_out, suffixes())
    )
    groups = [{label for _, label in images} for images in listing.values()]
    notes = left_out.notes()
    if len(groups) > 1 and len(set.union(*groups)) == sum(map(len, groups)):
        listing = {"train": [image for images in listing.values() for image in images]}
        notes = ("the parts share no class (few-shot): their images are pooled", *notes)
    return listed_source("mini-imagenet", listing, TEST_SHARE, notes, tuple(tables.values()))


def _tables(root: Path) -> dict[str, Path]:
    """The table of each part that has one."""
    names = {part: "val.csv" if part == "validation" else f"{part}.csv" for part in PARTS}
    tables = {part: root / name for part, name in names.items() if (root / name).is_file()}
    if "train" not in tables:
        raise DataError(f"{shown(root)} has images/ but no train.csv")
    return tables


def _list_tables(root: Path, tables: dict[str, Path], left_out: LeftOut) -> Listing:
    listing: dict[str, list[tuple[Path, str]]] = {}
    for part, table in tables.items():
        for number, row in enumerate(_rows(table), start=2):
            if not row["filename"]:
                left_out.add("rows without image", f"line {number} of {table.name}")
            elif not row["label"]:
                raise DataError(f"line {number} of {shown(table)} has no label")
            else:
                file = below(root / "images", row["filename"], f"line {number} of {shown(table)}")
                listing.setdefault(part, []).append((file, composed(row["label"])))
    named = {file for images in listing.values() for file, _ in images}
    for file in files_below(root / "images", left_out):
        if file not in named:
            left_out.add("files that no table names", file.relative_to(root))
    return listing


def _rows(table: Path) -> list[dict[str, str]]:
    """The rows of a table; spreadsheets put a byte order mark before the first column's name."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, restval="")
            columns = rows.fieldnames or []
            if not set(COLUMNS) <= set(columns):
                raise DataError(
                    f"{shown(table)} needs the columns {', '.join(COLUMNS)}; "
                    f"it has {', '.join(columns)}"
                )
            return list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown(table)} cannot be read as CSV in UTF-8: {error}") from error
