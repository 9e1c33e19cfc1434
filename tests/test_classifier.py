"""The classifier: scikit-learn's contract, as far as images allow, and what lies beyond it."""

from __future__ import annotations

import copy
import inspect
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnn2gnn import Cnn2GnnClassifier
from cnn2gnn.config import Config

QUICK: dict[str, Any] = {
    "stem": "features", "k": 2, "epochs": 2, "teacher_epochs": 1, "batch_size": 16,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
DIGITS = load_digits()
IMAGES = np.rint(DIGITS.images * (255 / 16)).astype(np.uint8)[:120]  # (120, 8, 8)
LABELS = np.array([f"digit {label % 3}" for label in DIGITS.target[:120]])


ROUNDED = {
    "check_methods_sample_order_invariance": "asks for 1e-9, and float32 rounds at 1e-8: a matrix "
    "product over several threads sums a row by its place among the others"
}


# What it feeds are feature vectors, never images; its array API checks skip themselves unless
# SciPy's dispatch is switched on, which a model in torch does not serve.
@parametrize_with_checks([Cnn2GnnClassifier(**QUICK)], expected_failed_checks=lambda _: ROUNDED)
def test_scikit_learns_check(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def quick(**more: Any) -> Cnn2GnnClassifier:
    return Cnn2GnnClassifier(**{**QUICK, "stem": "conv-tiny", **more})


@pytest.fixture(scope="module")
def fitted() -> Cnn2GnnClassifier:
    return quick().fit(IMAGES, LABELS)


def test_defaults_are_those_of_the_configuration() -> None:
    known = Config().parameters()
    given = inspect.signature(Cnn2GnnClassifier).parameters
    own = {"random_state", "runs_dir"}  # of scikit-learn's custom, and None: nothing is kept
    assert own < set(given) and set(given) - own < set(known)
    assert {n: given[n].default for n in given if n not in own} == {
        n: known[n] for n in given if n not in own
    }


def test_it_learns_digits() -> None:
    images = DIGITS.images / 16
    classifier = quick(epochs=6, teacher_epochs=5, k=10).fit(images[:700], DIGITS.target[:700])
    assert classifier.score(images[700:1100], DIGITS.target[700:1100]) > 0.8


def test_every_layout_trains_the_same(fitted: Cnn2GnnClassifier) -> None:
    expected = fitted.predict_proba(IMAGES[:20])
    assert expected.shape == (20, 3) and fitted.classes_.tolist() == [
        "digit 0", "digit 1", "digit 2",
    ]  # fmt: skip
    np.testing.assert_array_equal(fitted.predict(IMAGES), fitted.classes_[
        fitted.predict_proba(IMAGES).argmax(1)
    ])  # fmt: skip
    for form in (IMAGES[:, None], IMAGES[..., None] / 255):
        again = quick().fit(form, LABELS).predict_proba(form[:20])
        np.testing.assert_allclose(again, expected, atol=1e-4)


def test_neighbours_are_rows_of_the_training_data(fitted: Cnn2GnnClassifier) -> None:
    rows = fitted.training_rows_
    table = fitted.predictor_.neighbours(IMAGES[rows[7]][None])
    nearest = table.iloc[0]
    assert nearest["distance"] == pytest.approx(0, abs=1e-3)  # it finds itself
    np.testing.assert_array_equal(IMAGES[rows[nearest["node"]]], IMAGES[rows[7]])
    assert table["label"].tolist() == LABELS[rows[table["node"]]].tolist()


def test_a_pickle_predicts_the_same_and_a_clone_is_untrained(fitted: Cnn2GnnClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(
        again.predict_proba(IMAGES[:9]), fitted.predict_proba(IMAGES[:9]), atol=1e-5
    )
    with pytest.raises(NotFittedError):
        clone(fitted).predict(IMAGES)


def test_features_beyond_the_range_of_training_are_taken_for_its_end() -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    classifier = Cnn2GnnClassifier(**QUICK).fit(X, X[:, 0] > 0)
    far = np.repeat(X.max(0)[None], 2, axis=0)
    far[1] += 1000
    one, other = classifier.predict_proba(far)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_search_trains_a_teacher_once_for_each_part_of_the_data(tmp_path: Path) -> None:
    search = GridSearchCV(
        quick(runs_dir=tmp_path), {"k": np.arange(2, 4)}, cv=2, refit=False, error_score="raise"
    )
    search.fit(IMAGES, LABELS)
    assert len([*(tmp_path / "teachers").glob("*/teacher.safetensors")]) == 2
    assert len([*tmp_path.glob("classifier-*")]) == 4


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: Cnn2GnnClassifier
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    classifier = quick(graph="none").fit(IMAGES, LABELS)
    assert [*tmp_path.iterdir()] == []
    assert classifier.predict_proba(IMAGES[:2]).shape == (2, 3)


REFUSED = {
    "parameter": ({"stem": "convnet"}, IMAGES, LABELS, "stem='convnet' must be one of"),
    "augmentation of vectors": (
        {"augmentation": "blah"}, IMAGES[:, 0], LABELS, "augmentation='blah' must be one of",
    ),
    "share": ({"validation": 0.9}, IMAGES, LABELS, "validation=0.9 must be from"),
    "k": ({"k": 200}, IMAGES, LABELS, "k=200 needs at least k . 2 = 202 nodes"),
    "one class": ({}, IMAGES, LABELS[:1].repeat(120), "y has images of one class only"),
    "oblong": ({}, IMAGES[:, :, :7], LABELS, r"\(120, 8, 7\): images must be square"),
    "no channels": ({}, IMAGES.reshape(120, 4, 4, 4), LABELS, r"X of shape \(120, 4, 4, 4\)"),
    "two places": ({}, np.zeros((120, 3, 3, 3), np.uint8), LABELS, "one axis alone"),
    "five axes": ({}, IMAGES[:, None, None], LABELS, r"X of shape \(120, 1, 1, 8, 8\)"),
    "int64": ({}, IMAGES.astype(int), LABELS, "is int64: allowed are uint8"),
    "floats to 255": ({}, IMAGES.astype(float), LABELS, r"floats must lie in \[0, 1\]"),
    "rare class": (
        {"validation": 0.5}, IMAGES, np.array(["one"] + ["rest"] * 119), "of the class 'one'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_it_cannot_learn_from_is_refused_before_training(kind: str, tmp_path: Path) -> None:
    more, X, y, said = REFUSED[kind]
    with pytest.raises(ValueError, match=said):
        quick(runs_dir=tmp_path, **more).fit(X, y)
    assert not [*tmp_path.rglob("*.safetensors")]


def test_of_classes_that_came_later_it_says_nothing(fitted: Cnn2GnnClassifier) -> None:
    grown = copy.deepcopy(fitted)
    grown.predictor_.add(IMAGES[:3, None], "late", new="late")
    with pytest.raises(ValueError, match="predictor_ knows classes that came later, .*, late: ask"):
        grown.predict(IMAGES[:2])
    grown.predictor_.remove(range(len(grown.predictor_.bank) - 3, len(grown.predictor_.bank)))
    assert (grown.predict(IMAGES) == fitted.predict(IMAGES)).all()


def test_other_axes_than_in_training_are_refused(fitted: Cnn2GnnClassifier) -> None:
    with pytest.raises(ValueError, match="X has 2 axes, but was fitted with 3"):
        fitted.predict(IMAGES[:, 0])


@pytest.mark.parametrize("layout", ["grey", "channels first", "channels last"])
def test_images_of_another_shape_than_in_training_are_refused(layout: str) -> None:
    places = {"grey": (), "channels first": (1,), "channels last": (3,)}[layout]
    classifier = quick(epochs=1).fit(np.expand_dims(IMAGES, places), LABELS)
    oblong = np.expand_dims(IMAGES[:, :, :5], places)
    with pytest.raises(ValueError, match="images must be square"):
        classifier.predict(oblong)
    if layout == "channels first":
        with pytest.raises(ValueError, match="1 channels and a side of 16, not 1 channels and a"):
            classifier.predict(IMAGES.repeat(2, 1).repeat(2, 2)[:, None])
    if layout == "channels last":
        with pytest.raises(ValueError, match="3 channels and a side of 8, not 1 channels and a"):
            classifier.predict(IMAGES[..., None].repeat(3, 3))
