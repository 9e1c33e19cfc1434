"""Objects of the user's own in place of what the configuration names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from cnn2gnn.base.fingerprints import fingerprint
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError, Splits
from cnn2gnn.data.splitting import check_training
from cnn2gnn.graph import GraphLearner
from cnn2gnn.models.stems import feature_width
from cnn2gnn.models.teacher import Teacher, check_classes
from cnn2gnn.registry import LAYERS, LEARNERS, LOSSES, STEMS, TEACHERS
from cnn2gnn.runs.trials import Loss, check_kind, check_learner, check_loss


@dataclass(frozen=True)
class Own:
    """What a run was given as an object; None: the configuration names it.

    Attributes:
        data: train, validation and test images.
        teacher: a trained teacher.
        stem: from normalised images `(B, C, S, S)` to features `(B, d)`; every student of the run
            starts from a copy of it.
        graph: a graph learner.
        loss: `loss(student_logits, teacher_logits, labels, *, temperature, weight)`, a scalar.
    """

    data: Splits | None = None
    teacher: Teacher | None = None
    stem: nn.Module | None = None
    graph: GraphLearner | None = None
    loss: Loss | None = None

    def __post_init__(self) -> None:
        kinds = {"data": Splits, "teacher": Teacher, "stem": nn.Module, "graph": GraphLearner}
        for name, kind in kinds.items():
            if getattr(self, name) is not None:
                check_kind(name, getattr(self, name), kind)

    def __bool__(self) -> bool:
        """Whether anything was given."""
        return any(getattr(self, item.name) is not None for item in fields(self))

    def fingerprints(self) -> dict[str, str]:
        """What identifies each object that was given: a run continues with no other."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: _of_data(thing) if isinstance(thing, Splits) else fingerprint(thing)
            for name, thing in given.items()
            if thing is not None
        }

    def try_on(self, splits: Splits) -> None:
        """Try each object on one training image, before anything long starts.

        Args:
            splits: the data of the run, its own or the configured ones.

        Raises:
            ValueError: one of them does not fit the data, fails, or does not give what is needed.
            DataError: the parts of your own data do not fit together, or a class is missing.
        """
        images = splits.train
        if self.data is not None:
            check_splits(splits)
        if self.teacher is not None:
            check_classes(self.teacher, images)
        if self.stem is not None:
            feature_width(self.stem, images.channels, images.size)
        if self.graph is not None:
            check_learner(self.graph)
        if self.loss is not None:
            check_loss(self.loss, len(images.classes))

    def check(self, made_with: dict[str, str], run: str) -> None:
        """Compare with the fingerprints of the objects that a run was made with.

        Raises:
            ConfigError: an object is another one than then.
        """
        for name, now in self.fingerprints().items():
            if now != made_with.get(name):
                raise ConfigError(
                    f"{name} is {now}, but run {run!r} was made with "
                    f"{made_with.get(name, 'the configured one')}; a module's weights count, so "
                    "seed torch before you build it, or choose another run name"
                )

    def needed(self, name: str, made_with: dict[str, str], run: str) -> Any:
        """Return the object `name`, or None if the run was made with the configured one.

        Raises:
            ConfigError: the run was made with an object, and none was given.
        """
        given = getattr(self, name)
        if given is None and name in made_with:
            raise ConfigError(
                f"run {run!r} was made with {name} of your own ({made_with[name]}); "
                f"hand it over: load_run({run!r}, {name}=…)"
            )
        return given


def registered(config: Config) -> dict[str, str]:
    """Fingerprints of what a configuration names and the user has registered, by parameter."""
    parameters = config.parameters()
    return {
        registry.parameter: fingerprint(registry[name])
        for registry in (TEACHERS, STEMS, LEARNERS, LAYERS, LOSSES)
        if registry.from_outside(name := parameters[registry.parameter])
    }


def _of_data(splits: Splits) -> str:
    digest = hashlib.sha256("".join(part.fingerprint for part in splits).encode())
    return f"{splits.train.name} {digest.hexdigest()[:16]}"


def check_splits(splits: Splits) -> None:
    """Check data that were put together elsewhere.

    Raises:
        DataError: a part is empty, of another kind than the training images or decoded otherwise,
            or a class that occurs has no training image.
    """
    train = splits.train
    for name, part in splits._asdict().items():
        if len(part) == 0:
            raise DataError(f"data of your own: the {name} part of {part.name} has no image")
        for what in ("modality", "classes", "channels", "size"):
            mine, other = getattr(train, what), getattr(part, what)
            if mine != other:
                raise DataError(
                    f"data of your own: {what} of the {name} part are {other}, but of train {mine}"
                )
        if part.codec != train.codec:  # a vocabulary, say: its numbers are other words
            raise DataError(
                f"data of your own: the {name} part of {part.name} was decoded by another codec "
                "than train; load all parts as one data set"
            )
    labels = torch.cat([part.labels for part in splits])
    check_training(labels, torch.arange(len(train)), train.classes, train.name)
