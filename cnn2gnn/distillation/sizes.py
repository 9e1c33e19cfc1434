"""Whether graph, stem and teacher fit the data, told before anything is trained."""

from __future__ import annotations

import torch

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import Splits
from cnn2gnn.graph import Heads
from cnn2gnn.registry import LEARNERS, MODALITIES, STEMS, TEACHERS, Registry
from cnn2gnn.runs.own import Own


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
        ConfigError: there are fewer nodes than a graph of k neighbours needs, the learner can have
            no heads, or one of your own is given where there shall be no graph.
    """
    if config.student.graph == "none":
        if own.graph is not None:
            raise ConfigError("graph='none' leaves no place for a graph learner of your own")
        return
    learner = own.graph or LEARNERS[config.student.graph](config.student.k)
    if config.student.heads > 1:
        try:
            Heads(learner, config.student.heads)
        except ValueError as error:
            name = type(own.graph).__name__ if own.graph else config.student.graph
            raise ConfigError(f"{error}, not graph={name!r}") from error
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
