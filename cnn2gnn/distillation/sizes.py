"""Whether graph, stem and teacher fit the data, told before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import torch

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import Splits
from cnn2gnn.graph import Heads
from cnn2gnn.models.given import NAME, given_teacher
from cnn2gnn.registry import LEARNERS, MODALITIES, STEMS, TEACHERS, Registry
from cnn2gnn.runs.own import Own


def fitting(config: Config, own: Own, splits: Splits) -> Own:
    """Check all that a run is made of, and return it with the teacher that came with the data.

    Raises:
        ConfigError: see `check_modality` and `check_sizes`.
        DataError: the data bring no answers of a teacher's, or their parts do not fit together.
        ValueError: an object of your own does not fit the data.
    """
    if own.teacher is None and config.teacher.teacher == NAME:
        own = replace(own, teacher=given_teacher(splits))
    own.try_on(splits)
    check_modality(config, own, splits)
    check_sizes(config, own, splits)
    return own


def check_modality(config: Config, own: Own, splits: Splits) -> None:
    """Compare stem, teacher, augmentation and graph with what suits such samples.

    Raises:
        ConfigError: one of them does not; what does is named.
    """
    kind, samples = splits.train.modality, splits.train.images
    modality, augmentation = MODALITIES[kind], config.data.augmentation
    if own.stem is None:
        _require("stem", config.student.stem, modality.stems, STEMS, kind)
    if own.teacher is None:
        check_teacher(config.teacher.teacher, kind)
    known = modality.augmentations
    if known and augmentation not in ("auto", *known):
        raise ConfigError(
            f"augmentation={augmentation!r} is not for {kind}: choose auto, {', '.join(known)}"
        )
    codes = not samples.is_floating_point() and samples.dtype != torch.uint8
    if codes and own.graph is None and config.student.graph == "fixed":
        raise ConfigError(
            f"graph='fixed' compares raw samples, and those of {kind} are codes: choose another"
        )


def check_teacher(name: str, kind: str) -> None:
    """Compare a teacher with what suits samples of this kind, a name in `registry.MODALITIES`.

    Raises:
        ConfigError: it does not; those that do are named.
    """
    _require("teacher", name, MODALITIES[kind].teachers, TEACHERS, kind)


def _require(
    parameter: str, name: str, suits: tuple[str, ...], registry: Registry, kind: str
) -> None:
    if suits and name not in suits and not registry.from_outside(name):
        raise ConfigError(
            f"{parameter}={name!r} is not for {kind}: choose {' or '.join(suits)}, "
            "or one of your own"
        )


def check_sizes(config: Config, own: Own, splits: Splits) -> None:
    """Count nodes, and build the graph learner, before anything is trained.

    Raises:
        ConfigError: there are fewer nodes than a graph of k neighbours needs, or the learner can
            have no heads.
    """
    if config.student.graph == "none":
        return
    learner = own.graph or LEARNERS[config.student.graph](config.student.k)
    if config.student.heads > 1:
        try:
            Heads(learner, config.student.heads)
        except ValueError as error:
            raise ConfigError(f"{error}, not graph={config.student.graph!r}") from error
    k, runtime = learner.k, config.runtime
    places = {"the bank of training images": len(splits.train)}
    if config.student.scope == "batch":
        batch, whole = config.training.graph_batch_size, runtime.eval_batch_size
        places = {
            "a training batch": min(batch, len(splits.train)),
            "a batch of validation images": min(whole, len(splits.validation)),
            "a batch of test images": min(whole, len(splits.test)),
        }
    for where, nodes in places.items():
        if nodes < k + 2:
            raise ConfigError(
                f"k={k} needs at least k + 2 = {k + 2} nodes, but {where} has {nodes}; "
                f"lower k to at most {max(nodes - 2, 0)} or use more images"
            )
