"""From the name of a data set to its three parts."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

from cnn2gnn.base.values import brief, plain
from cnn2gnn.data.imageset import ImageSet, Splits
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PARTS, Request, Source
from cnn2gnn.data.splitting import check_cut, check_training, check_whole, cut, notes_of
from cnn2gnn.data.store import decoded
from cnn2gnn.registry import DATASETS

log = logging.getLogger(__name__)


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    label_column: str = "label",
    group_column: str | None = None,
    train_images: int | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
) -> Splits:
    """Load a data set as uint8 tensors, decoded once and kept in a cache on disk.

    A part that the source has is taken as it is. Where it has none:
    - test: a lone validation part is the test part; else a fixed stratified share of the training
      images, one for all seeds (a quarter; Mini-ImageNet a sixth);
    - validation: a stratified share of the training images, drawn by `split_seed`.

    What was left out or decided for want of a word about it, and which classes have no test image,
    is told in one line of the log, which goes to standard error unless logging is set up otherwise,
    and is kept as `notes` of each part.

    Args:
        name: one of `registry.DATASETS`: digits, fashion-mnist, cifar10, cifar100, stl10,
            mini-imagenet; vowels and docstrings (small examples of sound and text); folder:PATH
            (class folders, perhaps in train, val, test) and audio:PATH (likewise); parquet:GLOB
            (also a file or a folder; images, recordings, texts or features), text:GLOB (csv, tsv,
            json lines, parquet), features:FILE (npz, parquet); or what you have registered.
        data_dir: folder of torchvision's data sets and of mini-imagenet; none: `data`.
        download: fetch a torchvision data set that is missing.
        image_size: side in pixels. None keeps the size of the images, which must then be square
            and of one size. Else the shorter side is resized to it, and the centre is cut out.
        label_column: of tables.
        group_column: of tables: its values (speakers, patients) never stand on both sides of the
            test cut, which then is drawn anew; None: parts as the source has them.
        train_images: keep at most so many training images, stratified, drawn by `split_seed`,
            after validation was cut off.
        validation: share in (0, 1) of the training images.
        split_seed: at least 0.

    Raises:
        DataError: an unknown name, a missing or broken source, or a parameter of another type or
            out of range.
    """
    if not isinstance(name, str):
        raise DataError(f"name={brief(name)} must be the name of a data set, like 'digits'")
    image_size, train_images = plain(image_size), plain(train_images)
    validation, split_seed = plain(validation), plain(split_seed)
    if image_size is not None:
        check_whole("image_size", image_size, 1)
    check_cut(validation, train_images, split_seed)
    source = _source(Request(name, "", data_dir, download, label_column, group_column))
    if group_column and group_column not in source.options:
        raise DataError(f"group_column={group_column!r} is for tables; {name} has no columns")
    found = decoded(source, image_size)
    own = {part: (found.parts == code).nonzero().flatten() for code, part in enumerate(PARTS)}
    rows = cut(
        found.labels,
        own,
        validation=validation,
        test_share=found.test_share,
        train_images=train_images,
        split_seed=split_seed,
        source=source.name,
    )
    fewer = "" if train_images is None else f" with train_images={train_images}"
    check_training(found.labels, rows["train"], found.classes, source.name + fewer)
    notes = (*source.notes, *found.notes, *notes_of(found.labels, own, rows, found.classes))
    if notes:
        log.warning("%s: %s", source.name, "; ".join(notes))
    whole = ImageSet(
        found.images,
        found.labels,
        found.classes,
        source.name,
        source.modality,
        notes,
        found.codec,
        found.originals,
        found.logits,
    )
    return Splits(*(whole.subset(rows[part]) for part in PARTS))


def registered(name: str) -> str:
    """Return the entry of `registry.DATASETS` for a name, or for what stands before its colon.

    Raises:
        DataError: there is none.
    """
    kind, _, place = name.partition(":")
    for entry in DATASETS:
        known, _, takes = entry.partition(":")
        if known == kind and bool(takes) == bool(place):
            return entry
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"unknown data set {name!r}: {hint}known are {', '.join(DATASETS)}")


def _source(asked: Request) -> Source:
    entry = registered(asked.name)
    kind, _, place = asked.name.partition(":")
    found = DATASETS[entry](asked._replace(name=kind, place=place))
    if not isinstance(found, Source):
        raise DataError(
            f"data set {asked.name!r}: what is registered must return a cnn2gnn.data.Source, not "
            f"{type(found).__name__}; Splits are handed over as they are, distil(data=…)"
        )
    return found


load_data = load  # `cnn2gnn.load_data`: where no room is named, `load` says too little
