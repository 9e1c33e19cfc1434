"""A scikit-learn classifier around the distillation of a graph student."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from cnn2gnn.base.values import plain
from cnn2gnn.config import Config
from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.data.coerce import as_images
from cnn2gnn.data.splitting import VALIDATION, check_training, stratified_order
from cnn2gnn.distillation.session import Session
from cnn2gnn.predictor import Predictor
from cnn2gnn.runs.own import Own


class Cnn2GnnClassifier(ClassifierMixin, BaseEstimator):
    """Trains a CNN teacher and distils it into a graph student, which predicts.

    X holds images, uint8 or floats in [0, 1], as `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`,
    square, C being 1 or 3; or feature vectors `(N, d)`. A vector becomes an image of one pixel with
    d channels: each feature is scaled to its range in the training data and rounded to 256 levels,
    and what lies beyond that range later is taken for its end.

    Args:
        stem, graph, k, epochs, batch_size, learning_rate, kd_weight, temperature, teacher,
            teacher_epochs, device: as in `Config`.
        validation: share of the training images that is kept back, to tell α: how much it counts
            what neighbours are.
        augmentation: as in `Config`; auto crops images, and mirrors none: a mirrored 3 is no 3.
            Vectors are not augmented.
        random_state: seeds everything; None: another training at each fit.
        runs_dir: keeps runs and teachers, so that a search over the student's parameters trains a
            teacher once for each part of the data, and nothing is trained twice. None: nothing is
            kept.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: length of the second axis of X.
        predictor_: the trained `Predictor`, whose `neighbours` tell the reasons.
        scaler_: of feature vectors; None for images.
        training_rows_: rows of X in the bank, in its order: `predictor_`'s nodes.
    """

    def __init__(
        self,
        stem: str = "conv-small",
        graph: str = "adaptive",
        k: int = 20,
        epochs: int = 15,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        kd_weight: float = 0.5,
        temperature: float = 4.0,
        teacher: str = "resnet20",
        teacher_epochs: int = 30,
        validation: float = 0.1,
        augmentation: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        runs_dir: str | Path | None = None,
    ) -> None:
        self.stem = stem
        self.graph = graph
        self.k = k
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.teacher = teacher
        self.teacher_epochs = teacher_epochs
        self.validation = validation
        self.augmentation = augmentation
        self.random_state = random_state
        self.device = device
        self.runs_dir = runs_dir

    def fit(self, X: Any, y: Any) -> Cnn2GnnClassifier:
        """Train teacher and student on X and labels y `(N,)` of at least two classes.

        Raises:
            ValueError: X, y or a parameter is not as above.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.scaler_ = MinMaxScaler((0, 255), clip=True).fit(X) if X.ndim == 2 else None
        self._axes, self._shape = X.ndim, _image_shape(X)
        parameters = self._parameters(int(check_random_state(self.random_state).randint(2**31 - 1)))
        seed = Config.from_parameters(parameters).data.split_seed  # wrong parameters end here
        splits = self._splits(self._images(X), torch.from_numpy(labels), seed)
        with self._folder() as folder:
            place = {"run": _run_name(parameters, splits), "runs_dir": folder}
            session = Session.start(Config.from_parameters(parameters | place), Own(data=splits))
            student = session.student()
        train = splits.train
        bank = None if student.scope == "none" else student.bank(train.images, train.labels)
        self.predictor_ = Predictor(student, bank, train.classes)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted labels `(N,)`."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of `classes_`, float32 `(N, classes)`."""
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        if X.ndim != self._axes:
            raise ValueError(f"X has {X.ndim} axes, but was fitted with {self._axes}")
        if (found := _image_shape(X)) != self._shape:
            told = "{} channels and a side of {}"
            raise ValueError(f"X has {told.format(*found)}, not {told.format(*self._shape)}")
        if len(self.predictor_.classes) > len(self.classes_):
            raise ValueError(
                f"predictor_ knows classes that came later, {', '.join(self.predictor_.classes)}: "
                "ask it itself"
            )
        return self.predictor_.predict_proba(self._images(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _images(self, X: np.ndarray) -> Tensor:
        """uint8 `(N, C, S, S)`."""
        if self.scaler_ is not None:
            X = np.rint(self.scaler_.transform(X)).astype(np.uint8)[:, :, None, None]
        channels, size = self._shape
        return as_images(X[:, None] if X.ndim == 3 else X, channels=channels, size=size)

    def _splits(self, images: Tensor, labels: Tensor, seed: int) -> Splits:
        """Training and validation images; no image is kept for a test, for none is made."""
        order = stratified_order(labels, seed, VALIDATION)
        held_out = max(1, round(self.validation * len(labels)))
        self.training_rows_ = order[held_out:].sort().values.numpy()
        classes = tuple(map(str, self.classes_))
        check_training(labels, torch.from_numpy(self.training_rows_), classes, "y")
        whole = ImageSet(images, labels, classes, "arrays")
        train, validation = whole.subset(self.training_rows_), whole.subset(order[:held_out])
        return Splits(train, validation, test=validation)

    def _parameters(self, seed: int) -> dict[str, Any]:
        """The configuration's parameters, but for where the run lies."""
        given = {
            name: plain(value)  # from np.arange
            for name, value in self.get_params().items()
            if name not in ("random_state", "runs_dir")
        }
        Config.from_parameters({"augmentation": given["augmentation"]})  # it may be replaced
        if self.augmentation == "auto" or self.scaler_ is not None:
            given["augmentation"] = "crop" if self.scaler_ is None else "none"
        if given["augmentation"] == "none":
            given["views"] = 1  # all views are the same
        return given | {"baselines": "", "seed": seed, "teacher_seed": seed, "split_seed": seed}

    def _folder(self) -> AbstractContextManager[str]:
        if self.runs_dir is None:
            return tempfile.TemporaryDirectory(prefix="cnn2gnn-")
        return nullcontext(str(self.runs_dir))


def _run_name(parameters: dict[str, Any], splits: Splits) -> str:
    """A name for each content, so that runs kept in one folder never meet another's."""
    whole = Config.from_parameters(parameters).parameters()  # another version has other defaults
    content = [whole, splits.train.fingerprint, splits.validation.fingerprint]
    return "classifier-" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _image_shape(X: np.ndarray) -> tuple[int, int]:
    """Channels and side of the images that X `(N, d)`, `(N, H, W)` or of four axes stands for."""
    if X.ndim == 2:
        return X.shape[1], 1
    if X.ndim == 3:
        channels, sides = 1, X.shape[1:]
    else:
        places = [axis for axis in (1, -1) if X.ndim == 4 and X.shape[axis] in (1, 3)]
        if len(places) != 1:
            raise DataError(
                f"X of shape {X.shape} must be (N, d), (N, H, W), (N, H, W, C) or (N, C, H, W), "
                "one axis alone having the length C = 1 or 3"
            )
        channels = X.shape[places[0]]
        sides = X.shape[1:3] if places[0] == -1 else X.shape[2:]
    if sides[0] != sides[1]:
        raise DataError(f"X of shape {X.shape}: images must be square")
    return channels, sides[0]
