"""All that a run is made of, checked against the data and tried before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import Splits
from cnn2gnn.distillation.sizes import check_modality, check_sizes
from cnn2gnn.distillation.teacher import new_teacher
from cnn2gnn.models.given import NAME, given_teacher
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.registry import LAYERS, LEARNERS, LOSSES, STEMS, TEACHERS, Registry
from cnn2gnn.runs.own import Own
from cnn2gnn.runs.trials import WIDTH, check_layer


def fitting(config: Config, own: Own, splits: Splits) -> Own:
    """Check all that a run is made of, and return it with the teacher that came with the data.

    Raises:
        ConfigError: see `check_modality` and `check_sizes`; or answers that came with the data
            stand beside a teacher that was handed over, or beside samples that are varied.
        DataError: the data bring no answers of a teacher's, or their parts do not fit together.
        ValueError: an object of your own, or what you have registered, does not fit the data.
    """
    if config.teacher.teacher == NAME:
        own = replace(own, teacher=_answering(config, own, splits))
    own.try_on(splits)
    check_modality(config, own, splits)
    registered_parts(config, own, splits).try_on(splits)
    check_sizes(config, own, splits)
    layer = config.student.layer
    if LAYERS.from_outside(layer):
        check_layer(_built("layer", layer, lambda: LAYERS[layer](WIDTH, 1)))
    return own


def _answering(config: Config, own: Own, splits: Splits) -> Teacher:
    """The teacher that came with the data, which knows no sample but as it came."""
    if own.teacher is not None:
        raise ConfigError(
            f"teacher={NAME!r} takes the answers that came with the data and leaves no place "
            "for a teacher of your own: name another, or hand none over"
        )
    teacher, asked = given_teacher(splits), config.data.augmentation
    if (used := splits.train.augmentation_for(asked)) != "none":
        raise ConfigError(
            f"teacher={NAME!r} has answers for samples as they are, and none for views by {used!r}"
            f": augmentation={asked!r} must be none"
        )
    return teacher


def registered_parts(config: Config, own: Own, splits: Splits) -> Own:
    """Build what the configuration names and the user has registered, to be tried on the data.

    Raises:
        ConfigError: one of them cannot be built.
    """
    train, student = splits.train, config.student
    makers: dict[str, tuple[Registry, str, Callable[[], Any]]] = {
        "teacher": (TEACHERS, config.teacher.teacher, lambda: new_teacher(config, train)),
        "stem": (STEMS, student.stem, lambda: STEMS[student.stem](train.channels, train.size)),
        "graph": (LEARNERS, student.graph, lambda: LEARNERS[student.graph](student.k)),
        "loss": (LOSSES, config.training.loss, lambda: LOSSES[config.training.loss]),
    }
    built = {}
    for part, (registry, name, make) in makers.items():
        if getattr(own, part) is None and registry.from_outside(name):
            built[part] = _built(part, name, make)
    return Own(**built)


def _built(part: str, name: str, make: Callable[[], Any]) -> Any:
    try:
        with torch.random.fork_rng():  # whether it is tried changes no run
            return make()
    except Exception as error:  # whatever the user's code stumbles over
        raise ConfigError(f"{part}={name!r} cannot be built: {error}") from error
