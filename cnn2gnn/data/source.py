"""What every kind of data set hands over before decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnn2gnn.data.pixels import Item

PARTS = ("train", "validation", "test")
# The names under which data sets go by these parts.
PART_NAMES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
TEST_SHARE = 0.25


class Samples(NamedTuple):
    """All images of a data set, encoded.

    Attributes:
        items: N images.
        labels: N indices into `classes`.
        parts: for each image, which of `PARTS` it belongs to.
        classes: the names of the classes.
        test_share: what is cut off as test where the source has no test part of its own.
    """

    items: Sequence[Item]
    labels: Sequence[int]
    parts: Sequence[str]
    classes: tuple[str, ...]
    test_share: float = TEST_SHARE


@dataclass(frozen=True)
class Source:
    """A data set that was found.

    Attributes:
        name: what reports call it.
        files: what the images come from; names, sizes and times of change identify them.
        read: reads the encoded images.
        options: what else decides what is read.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Samples]
    options: tuple[str, ...] = ()
