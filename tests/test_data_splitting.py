"""Cuts are stratified, disjoint, seeded, and the test part is the same for every seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.data import DataError, Splits, load
from cnn2gnn.data.splitting import cut, stratified_order

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(torch.tensor)


def cut_all(labels: Tensor, **more: Any) -> dict[str, Tensor]:
    options: dict[str, Any] = {
        "parts": {"train": torch.arange(len(labels))},
        "validation": 0.1,
        "test_share": 0.25,
        "train_images": None,
        "split_seed": 0,
        "source": "x",
    }
    return cut(labels, **(options | more))


def test_too_few_training_images_for_all_classes_are_refused() -> None:
    assert len(load("digits", train_images=10).train.labels.unique()) == 10
    with pytest.raises(DataError, match="digits with train_images=9: no training image is of"):
        load("digits", train_images=9)


def test_a_class_of_one_image_is_a_training_class() -> None:
    for rare in (0, 2):
        labels = torch.tensor([1] * 60 + [2 - rare] * 60 + [rare])
        for seed in range(5):
            assert rare in labels[cut_all(labels, split_seed=seed)["train"]]


@given(LABELS, st.integers(0, 2**31))
def test_the_order_is_a_permutation(labels: Tensor, seed: int) -> None:
    assert stratified_order(labels, seed, 0).sort().values.tolist() == list(range(len(labels)))


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 99), st.data())
def test_every_beginning_holds_equal_classes_equally(
    classes: int, each: int, seed: int, data: st.DataObject
) -> None:
    labels = torch.arange(classes).repeat(each)
    count = data.draw(st.integers(1, len(labels)))
    chosen = labels[stratified_order(labels, seed, 0)[:count]].bincount(minlength=classes)
    assert chosen.max() - chosen.min() <= 1


@settings(deadline=None)
@given(LABELS, st.floats(0.01, 0.5), st.integers(0, 9))
def test_parts_are_disjoint_and_complete(labels: Tensor, validation: float, seed: int) -> None:
    try:
        parts = cut_all(labels, validation=validation, split_seed=seed)
    except DataError as error:
        assert "too few images" in str(error) and len(labels) < 5
        return
    together = torch.cat(list(parts.values()))
    assert together.sort().values.tolist() == list(range(len(labels)))
    assert all(torch.equal(part, part.sort().values) for part in parts.values())


def test_class_shares_survive_imbalance() -> None:
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    parts = cut_all(labels)
    for part, counts in (("test", [225, 22.5, 2.5]), ("validation", [67.5, 6.75, 0.75])):
        found = labels[parts[part]].bincount(minlength=3)
        assert (found - torch.tensor(counts)).abs().max() <= 0.5


def test_seeds_change_validation_and_never_test() -> None:
    labels = torch.arange(10).repeat(50)
    first, second = cut_all(labels, split_seed=0), cut_all(labels, split_seed=1)
    assert torch.equal(first["test"], second["test"])
    assert not torch.equal(first["validation"], second["validation"])
    assert torch.equal(cut_all(labels, split_seed=1)["validation"], second["validation"])


def test_fewer_training_images_are_a_stratified_part_of_more() -> None:
    labels = torch.arange(10).repeat(50)
    full, many, few = (cut_all(labels, train_images=n) for n in (None, 200, 50))
    assert set(few["train"].tolist()) < set(many["train"].tolist()) < set(full["train"].tolist())
    assert labels[few["train"]].bincount().tolist() == [5] * 10
    assert torch.equal(few["validation"], full["validation"])
    assert torch.equal(cut_all(labels, train_images=10**6)["train"], full["train"])


def test_parts_of_the_source_are_kept() -> None:
    rows = torch.arange(30)
    parts = {"train": rows[:10], "validation": rows[10:20], "test": rows[20:]}
    kept = cut_all(rows % 2, parts=parts)
    assert all(torch.equal(kept[name], parts[name]) for name in parts)


def test_a_lone_validation_part_becomes_test() -> None:
    rows = torch.arange(30)
    parts = cut_all(rows % 2, parts={"train": rows[:20], "validation": rows[20:]})
    assert torch.equal(parts["test"], rows[20:])
    assert len(parts["validation"]) == 2 and len(parts["train"]) == 18


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"validation": 1.0}, r"validation=1.0 must lie between 0 and 1"),
        ({"train_images": 0}, r"train_images=0 must be at least 1"),
        ({"parts": {"test": torch.arange(4)}}, r"x has no training images; its parts: test"),
        ({"validation": 0.99}, r"nothing is left for train"),
    ],
)
def test_bad_cuts_are_named(more: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cut_all(torch.zeros(8, dtype=torch.int64), **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image_size": "64"}, "image_size='64' must be a whole number"),
        ({"validation": "0.1"}, "validation='0.1' must be a number between 0 and 1"),
        ({"train_images": "64"}, "train_images='64' must be a whole number"),
        ({"train_images": True}, "train_images=True must be a whole number"),
        ({"split_seed": 1.5}, "split_seed=1.5 must be a whole number"),
        ({"split_seed": None}, "split_seed=None must be a whole number"),
        ({"validation": 2}, "validation=2 must lie between 0 and 1"),
        ({"name": None}, "name=None must be the name of a data set"),
    ],
)
def test_parameters_are_checked_before_anything_is_decoded(
    more: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn2gnn.data.loading.decoded", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=message):
        load(**{"name": "digits"} | more)


def test_numbers_of_numpy_are_taken() -> None:
    given = {
        "train_images": np.int64(100),
        "validation": np.float32(0.25),
        "split_seed": np.int8(1),
    }
    plainly = load("digits", train_images=100, validation=0.25, split_seed=1)
    found = load("digits", **given)
    assert [part.fingerprint for part in found] == [part.fingerprint for part in plainly]


def test_digits_are_split_by_the_fixed_rule() -> None:
    splits: Splits = load("digits")
    assert [len(part) for part in splits] == [1213, 135, 449]
    assert splits.train.classes == tuple("0123456789")
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)
    other = load("digits", split_seed=7)
    assert other.test.fingerprint == splits.test.fingerprint
    assert other.train.fingerprint != splits.train.fingerprint
    shares = [part.labels.bincount() / len(part) for part in splits]
    assert (shares[0] - shares[2]).abs().max() < 0.01
