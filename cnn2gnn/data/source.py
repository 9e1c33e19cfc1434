"""What every kind of data set hands over before decoding.

A data set of your own is one function from a `Request` to a `Source`, and one line in
`registry.DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn2gnn.data.pixels import Item

PARTS = ("train", "validation", "test")
# The names under which data sets go by these parts.
PART_NAMES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
TEST_SHARE = 0.25


class Request(NamedTuple):
    """What the user asks a data set for.

    Attributes:
        name: the name in the registry, less the colon and what follows.
        place: what stands behind the colon, as in `folder:PATH`; else empty.
        data_dir: folder of the data sets that have a name; None: `data`.
        download: whether what is missing may be fetched.
        label_column: the column of the labels, where the source has columns.
        group_column: the column whose values never stand on both sides of the test cut; None: the
            parts are those of the source.
    """

    name: str
    place: str = ""
    data_dir: str | Path | None = None
    download: bool = False
    label_column: str = "label"
    group_column: str | None = None


class Samples(NamedTuple):
    """All images of a data set, encoded.

    Attributes:
        items: N images.
        labels: N indices into `classes`.
        parts: for each image, which of `PARTS` it belongs to.
        classes: the names of the classes.
        test_share: what is cut off as test where the source has no test part of its own.
        notes: what reading them decided or left out; a user is told.
        logits: what a teacher elsewhere said of each, a row a sample; None: there is none.
        originals: what samples look or sound like, where their items do not tell.
    """

    items: Sequence[Item]
    labels: Sequence[int]
    parts: Sequence[str]
    classes: tuple[str, ...]
    test_share: float = TEST_SHARE
    notes: tuple[str, ...] = ()
    logits: Sequence[Sequence[float]] | np.ndarray | None = None
    originals: Sequence[bytes] | None = None


@dataclass(frozen=True)
class Source:
    """A data set that was found.

    Attributes:
        name: what reports call it.
        files: the files that decide the result, without those that `read` names as items. Names,
            sizes and times of change identify them. Without any, nothing is cached.
        read: reads the encoded images.
        options: what else decides what is read.
        notes: what finding them decided or left out; a user is told.
        modality: of the samples, a name in `registry.MODALITIES`.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Samples]
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    modality: str = "image"
