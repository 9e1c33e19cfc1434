"""Cutting a data set into train, validation and test: stratified, seeded, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnn2gnn.base.values import ConfigError, brief, whole_number
from cnn2gnn.data.hashing import hashed
from cnn2gnn.data.pixels import DataError

# Streams of the hash: which of the cuts a random order is for.
TEST, VALIDATION, TRAIN, SNAPSHOT = range(4)
# The test cut of a source without one is part of the data set: no seed may change it.
TEST_SEED = 0


def stratified_order(labels: Tensor, seed: int, stream: int) -> Tensor:
    """Return a random order `(N,)` of which every beginning holds the classes in proportion.

    The i-th of the n images of a class stands at (i + 1/2) / n. So the first m images are a
    stratified sample for any m, and a smaller sample is part of a larger one; classes of a single
    image are no error (both unlike scikit-learn's splitters).

    Args:
        labels: int64 `(N,)`.
        seed: other seeds give other orders.
        stream: which draw it is, so that one seed serves several independent draws.
    """
    rows = torch.arange(len(labels))
    shuffled = hashed(rows, seed, stream).argsort(stable=True)  # (N,)
    grouped = shuffled[labels[shuffled].argsort(stable=True)]  # (N,), class after class
    counts = labels.bincount()  # (classes,)
    first = (counts.cumsum(0) - counts)[labels[grouped]]  # (N,), where the class begins
    place = (rows - first + 0.5).double() / counts[labels[grouped]]  # (N,)
    # Images of equal place come in random order, not in the order of their classes.
    ties = hashed(grouped, seed, stream, 1).argsort(stable=True)
    return grouped[ties[place[ties].argsort(stable=True)]]


def check_cut(validation: float, train_images: int | None, split_seed: int) -> None:
    """Check what `cut` is asked for, before anything is decoded.

    Raises:
        DataError: it has another type, or is out of range.
    """
    if isinstance(validation, bool) or not isinstance(validation, float | int):
        raise DataError(f"validation={brief(validation)} must be a number between 0 and 1")
    if not 0 < validation < 1:
        raise DataError(f"validation={validation} must lie between 0 and 1")
    check_whole("split_seed", split_seed, 0)
    if train_images is not None:
        check_whole("train_images", train_images, 1)


def check_whole(name: str, value: int, least: int) -> None:
    """Raise a `DataError` for what is no whole number of at least `least`."""
    try:
        whole_number(name, value, least)
    except ConfigError as error:
        raise DataError(str(error)) from None


def check_training(labels: Tensor, train: Tensor, classes: Sequence[str], source: str) -> None:
    """Check that a classifier can be trained: two classes, and each that occurs occurs in `train`.

    Args:
        labels: int64 `(N,)` of all images, indices into `classes`.
        train: the indices of the training images; none is the business of `cut`.
        source: what errors call the data set.

    Raises:
        DataError: a class is missing.
    """
    counts = labels.bincount(minlength=len(classes))  # (classes,)
    present = counts.nonzero().flatten()
    if len(present) < 2:
        only = ", ".join(repr(classes[label]) for label in present)
        raise DataError(f"{source} has images of one class only, {only}: two are needed")
    missing = counts.bool() & (labels[train].bincount(minlength=len(classes)) == 0)
    if len(train) and missing.any():
        names = [classes[label] for label in missing.nonzero().flatten()]
        more = f" and of {len(names) - 1} more that other parts have" if len(names) > 1 else ""
        raise DataError(f"{source}: no training image is of the class {names[0]!r}{more}")


def notes_of(
    labels: Tensor, own: dict[str, Tensor], parts: dict[str, Tensor], classes: Sequence[str]
) -> tuple[str, ...]:
    """Return what a user should know of a cut: lines of text.

    Args:
        labels: int64 `(N,)` of all images, indices into `classes`.
        own: the source's own parts, as `cut` was given them; parts: what `cut` made of them.
    """
    notes = []
    if len(own["validation"]) and not len(own["test"]):
        notes.append("no test part: the validation part is the test part")
    tested = labels[parts["test"]].bincount(minlength=len(classes))  # (classes,)
    lacking = (labels.bincount(minlength=len(classes)) > 0) & (tested == 0)
    if lacking.any():
        names = [repr(classes[label]) for label in lacking.nonzero().flatten()]
        more = f" and {len(names) - 3} more classes" if len(names) > 3 else ""
        them = "it" if len(names) == 1 else "them"
        notes.append(
            f"no test image of {', '.join(names[:3])}{more}: results say nothing of {them}"
        )
    return tuple(notes)


def cut(
    labels: Tensor,
    parts: dict[str, Tensor],
    *,
    validation: float,
    test_share: float,
    train_images: int | None,
    split_seed: int,
    source: str,
) -> dict[str, Tensor]:
    """Return the indices of "train", "validation" and "test", each ascending.

    Args:
        labels: int64 `(N,)` of all images.
        parts: the source's own parts among "train", "validation", "test", as indices into N.
        validation: share of the training images cut off where the source has no validation part.
        test_share: share cut off as test, by a fixed rule, where the source has neither a test
            nor a validation part. A lone validation part is the test part.
        train_images: keep at most so many training images after both cuts.
        split_seed: seed of the validation cut and of the training images kept.
        source: what errors call the data set.

    Raises:
        DataError: a part is empty, or a parameter is wrong (`check_cut`).
    """
    check_cut(validation, train_images, split_seed)
    parts = with_test(labels, parts, test_share, source)
    if "validation" not in parts:
        parts["validation"], parts["train"] = _divide(
            labels, parts["train"], validation, split_seed, VALIDATION
        )
    if train_images is not None:
        train = parts["train"]
        order = stratified_order(labels[train], split_seed, TRAIN)
        parts["train"] = train[order[:train_images]]
    empty = [name for name, part in parts.items() if not len(part)]
    if empty:
        raise DataError(f"{source} has too few images: nothing is left for {', '.join(empty)}")
    return {name: part.sort().values for name, part in parts.items()}


def with_test(
    labels: Tensor, parts: dict[str, Tensor], test_share: float, source: str
) -> dict[str, Tensor]:
    """Return the parts that are not empty, and a test part: one for all seeds.

    Raises:
        DataError: there are no training images.
    """
    parts = {name: part for name, part in parts.items() if len(part)}
    if "train" not in parts:
        raise DataError(f"{source} has no training images; its parts: {', '.join(parts) or 'none'}")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "test" not in parts:
        parts["test"], parts["train"] = _divide(labels, parts["train"], test_share, TEST_SEED, TEST)
    return parts


def _divide(
    labels: Tensor, part: Tensor, share: float, seed: int, stream: int
) -> tuple[Tensor, Tensor]:
    """Return a stratified `share` of `part` (at least one image) and the rest."""
    order = stratified_order(labels[part], seed, stream)
    count = max(1, round(share * len(part)))
    return part[order[:count]], part[order[count:]]
