"""From the name of a data set to its three parts."""

from __future__ import annotations

import difflib
from pathlib import Path

from cnn2gnn.data.bundled import TORCHVISION, digits_source, torchvision_source
from cnn2gnn.data.folder import folder_source, mini_imagenet_source
from cnn2gnn.data.imageset import ImageSet, Splits
from cnn2gnn.data.parquet import parquet_source
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PARTS, Source
from cnn2gnn.data.splitting import cut
from cnn2gnn.data.store import decoded

DATASETS = ("digits", *TORCHVISION, "mini-imagenet", "folder:PATH", "parquet:GLOB")


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    label_column: str = "label",
    train_images: int | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
) -> Splits:
    """Load a data set as uint8 tensors, decoded once and kept in a cache on disk.

    A part that the source has is taken as it is. Where it has none:
    - test: a lone validation part is the test part; else a fixed stratified share of the training
      images, one for all seeds (a quarter; Mini-ImageNet a sixth);
    - validation: a stratified share of the training images, drawn by `split_seed`.

    Args:
        name: one of `DATASETS`: digits, fashion-mnist, cifar10, cifar100, stl10, mini-imagenet,
            folder:PATH (class folders, perhaps in train, val, test) or parquet:GLOB.
        data_dir: folder of torchvision's data sets and of mini-imagenet; none: `data`.
        download: fetch a torchvision data set that is missing.
        image_size: side in pixels. None keeps the size of the images, which must then be square
            and of one size. Else the shorter side is resized to it, and the centre is cut out.
        label_column: of parquet files.
        train_images: keep at most so many training images, stratified, drawn by `split_seed`,
            after validation was cut off.
        validation: share in (0, 1) of the training images.
        split_seed: at least 0.

    Raises:
        DataError: an unknown name, a missing or broken source, or a parameter out of range.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size={image_size} must be at least 1")
    if split_seed < 0:
        raise DataError(f"split_seed={split_seed} must be at least 0")
    source = _source(name, data_dir, download, label_column)
    found = decoded(source, image_size)
    rows = cut(
        found.labels,
        {part: (found.parts == code).nonzero().flatten() for code, part in enumerate(PARTS)},
        validation=validation,
        test_share=found.test_share,
        train_images=train_images,
        split_seed=split_seed,
        source=source.name,
    )
    whole = ImageSet(found.images, found.labels, found.classes, source.name)
    return Splits(*(whole.subset(rows[part]) for part in PARTS))


def _source(name: str, data_dir: str | Path | None, download: bool, label_column: str) -> Source:
    kind, _, place = name.partition(":")
    if kind == "parquet" and place:
        return parquet_source(place, label_column)
    if kind == "folder" and place:
        return folder_source(place)
    if name == "digits":
        return digits_source()
    if name == "mini-imagenet":
        return mini_imagenet_source(data_dir)
    if name in TORCHVISION:
        return torchvision_source(name, data_dir, download)
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"unknown data set {name!r}: {hint}known are {', '.join(DATASETS)}")


load_data = load  # `cnn2gnn.load_data`: where no room is named, `load` says too little
