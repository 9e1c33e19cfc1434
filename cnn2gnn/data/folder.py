"""Images in class folders, perhaps in parts."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from cnn2gnn.data.audio import SUFFIXES
from cnn2gnn.data.listing import absolute, files_below, subfolders
from cnn2gnn.data.names import LeftOut, composed, shown
from cnn2gnn.data.pixels import FORMATS, DataError, Item
from cnn2gnn.data.source import PART_NAMES, TEST_SHARE, Request, Samples, Source

# part -> the files and class names of its images
Listing = Mapping[str, list[tuple[Path, str]]]


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Every suffix of a format that is read; a camera's .mpo is a JPEG with a second picture."""
    known = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, kind in known.items() if kind in (*FORMATS, "MPO")))


def folder_source(asked: Request) -> Source:
    """Find images in `PATH/CLASS/…`, or in `PATH/train/CLASS/…` with `val` and `test` beside it.

    Raises:
        DataError: there is no such folder, it holds no images or a single class, or it may be
            read in two ways.
    """
    return class_folders(asked, suffixes())


def audio_source(asked: Request) -> Source:
    """Find recordings, as `folder_source` finds images.

    Raises:
        DataError: likewise.
    """
    return class_folders(asked, SUFFIXES, "recordings", "audio")


def class_folders(
    asked: Request, known: Collection[str], things: str = "images", modality: str = "image"
) -> Source:
    """Find samples of these suffixes in class folders; see `folder_source`."""
    root, left_out = absolute(asked.place), LeftOut()
    listing = list_folder(root, left_out, known, things)
    classes = {label for images in listing.values() for _, label in images}
    if len(classes) == 1:
        deeper = sorted({shown(f.parent.name) for f, _ in listing["train"]} - classes)
        hint = f"; are {', '.join(deeper[:3])} the classes? They lie too deep" if deeper else ""
        raise DataError(f"{shown(root)} holds one class only, {classes.pop()!r}{hint}")
    name = f"{asked.name}:{shown(root.name)}"
    source = listed_source(name, listing, TEST_SHARE, left_out.notes())
    return replace(source, modality=modality)


def listed_source(
    name: str,
    listing: Listing,
    test_share: float,
    notes: tuple[str, ...],
    tables: tuple[Path, ...] = (),
) -> Source:
    """Return the source of listed files; `tables` are the files that tell their labels."""
    images = [image for part in listing.values() for image in part]
    parts = [part for part, images in listing.items() for _ in images]
    classes = tuple(sorted({label for _, label in images}))
    index = {label: i for i, label in enumerate(classes)}
    samples = Samples(
        [Item(file, shown(file)) for file, _ in images],
        [index[label] for _, label in images],
        parts,
        classes,
        test_share,
    )
    files = (*tables, *(file for file, _ in images))
    return Source(name, files, lambda: samples, notes=notes)


def list_folder(
    root: Path, left_out: LeftOut, known: Collection[str], things: str = "images"
) -> Listing:
    """Return the samples of `root`, by part; all are "train" where it has no parts.

    Args:
        known: suffixes of the files that count; things: what errors and notes call the samples.

    Raises:
        DataError: see `folder_source`.
    """
    images: dict[str, list[Path]] = {}  # by the first folder below root
    for file in files_below(root, left_out):
        inside = file.relative_to(root)
        if file.suffix.lower() not in known:
            left_out.add("files of unknown suffix", inside)
        elif len(inside.parts) == 1:
            left_out.add(f"{things} outside class folders", inside)
        else:
            images.setdefault(inside.parts[0], []).append(file)
    listing: dict[str, list[tuple[Path, str]]] = {"train": []}
    divided = _is_divided(root, images)
    for name, files in images.items():
        part = PART_NAMES[name.lower()] if divided else "train"
        above = root / name if divided else root  # the folder of the class folders
        for file in files:
            inside = file.relative_to(above)
            if len(inside.parts) == 1:
                left_out.add(f"{things} outside class folders", file.relative_to(root))
            else:
                listing.setdefault(part, []).append((file, composed(inside.parts[0])))
    filled = {folder for files in images.values() for file in files for folder in file.parents}
    for level in [root, *(root / name for name in images if divided)]:
        for folder in subfolders(level):
            if folder not in filled:
                left_out.add(f"folders without {things}", folder.relative_to(root))
    if not listing["train"]:
        told = "".join(f"; {note}" for note in left_out.notes())
        raise DataError(
            f"{shown(root)} holds no {things} in class folders ({', '.join(known)}){told}"
        )
    return listing


def _is_divided(root: Path, images: Mapping[str, list[Path]]) -> bool:
    """Whether the folders in `root` that hold `images` are parts, and not classes.

    They are if nothing else is there: "train" may well be a class beside "bus" and "car".

    Raises:
        DataError: one holds class folders, and beside it is something that is no part.
    """
    parts = [name for name in images if name.lower() in PART_NAMES]
    others = sorted(set(images) - set(parts))
    if "train" not in {PART_NAMES[name.lower()] for name in parts}:
        return False
    # what holds folders can hardly be a class
    deep = [n for n in parts if all(len(f.relative_to(root).parts) > 2 for f in images[n])]
    if others and (len(deep) > 1 or "train" in {PART_NAMES[name.lower()] for name in deep}):
        raise DataError(
            f"{shown(root)} has the parts {', '.join(deep)}, and beside them images in "
            f"{shown(others[0])}: name that train, val or test, or move it elsewhere"
        )
    return not others
